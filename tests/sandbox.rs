//! What a service is inside: names, namespaces, files, ports, seen from within and from the host.

mod support;

mod sandbox {
    mod adoption;
    mod crowds;
    mod dependents;
    mod depends_on;
    mod devices;
    mod dns;
    mod elsewhere;
    mod escapes;
    mod events;
    mod files;
    mod gate;
    mod grants;
    mod health;
    mod hooks;
    mod identity;
    mod images;
    mod isolation;
    mod lasting;
    mod limits;
    mod lives_go_on;
    mod logs;
    mod names;
    mod networks;
    mod owners;
    mod pause;
    mod plan_and_up;
    mod ports;
    mod pre_start;
    mod privileges;
    mod process;
    mod replicas;
    mod restart;
    mod shared_networks;
    mod sharing;
    mod stopping;
    mod supervisor_dies;
    mod terminal;
    mod uplink;
    mod uplink_v6;
    mod users;
    mod verbs;
    mod volumes;
}
