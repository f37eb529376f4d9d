//! What a service is inside: names, namespaces, files, ports, seen from within and from the host.

mod support;

mod sandbox {
    mod devices;
    mod files;
    mod grants;
    mod identity;
    mod images;
    mod isolation;
    mod names;
    mod owners;
    mod ports;
    mod sharing;
    mod volumes;
}
