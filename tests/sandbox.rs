//! What a service is inside: names, namespaces, files, ports, seen from within and from the host.

mod support;

mod sandbox {
    mod files;
    mod identity;
    mod images;
    mod isolation;
    mod names;
    mod networks;
    mod ports;
    mod shared_networks;
    mod sharing;
}
