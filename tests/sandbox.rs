//! What a service is inside: names, namespaces, files, ports, seen from within and from the host.

mod support;

mod sandbox {
    mod crowds;
    mod devices;
    mod dns;
    mod elsewhere;
    mod escapes;
    mod files;
    mod grants;
    mod identity;
    mod images;
    mod isolation;
    mod lasting;
    mod limits;
    mod names;
    mod networks;
    mod owners;
    mod ports;
    mod privileges;
    mod process;
    mod shared_networks;
    mod sharing;
    mod stopping;
    mod supervisor_dies;
    mod terminal;
    mod uplink;
    mod users;
    mod volumes;
}
