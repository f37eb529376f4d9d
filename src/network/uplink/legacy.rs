//! Rules of iptables as it was before nftables, which the kernel keeps apart and nft does not see.

use std::{fs, path::Path};

use super::{
    find_program,
    foreign::{Foreign, Hook, Obstacle},
    nft,
};

/// The tables of this namespace that it has rules in.
const TABLES: &str = "/proc/thread-self/net/ip_tables_names";

/// What shows them: by the name that both kinds have in turn, and that of this one alone.
const PROGRAMS: [(&str, &str); 2] = [("iptables-legacy-save", "iptables-legacy"), ("iptables-save", "iptables")];

/// What there is of them.
pub(super) async fn rules(link: &str) -> Foreign {
    let tables = fs::read_to_string(TABLES).unwrap_or_default();
    if !tables.lines().any(|table| table == "filter") {
        return Foreign::default();
    }
    let link = link.to_owned();
    let task = move || match PROGRAMS.into_iter().find_map(|(program, iptables)| Some((shown(program)?, iptables))) {
        Some((rules, iptables)) => Foreign {
            forward: obstacle(&rules, Hook::Forward, iptables, &link),
            input: obstacle(&rules, Hook::Input, iptables, &link),
            unseen: None,
        },
        None => Foreign {
            unseen: Some(Obstacle {
                what: "table filter of iptables-legacy".to_owned(),
                mend: Hook::Forward.mend("iptables-legacy", false),
            }),
            ..Foreign::default()
        },
    };
    tokio::task::spawn_blocking(task).await.unwrap_or_default()
}

/// The rules as this program shows them, unless it is of the other kind.
fn shown(program: &str) -> Option<String> {
    let rules = nft::run(&find_program(program, None)?, &["-t", "filter"], "").ok()?;
    let is_legacy = rules.lines().next().is_some_and(|line| !line.contains("nf_tables") && !line.contains("-nft-"));
    (is_legacy && Path::new(TABLES).exists()).then_some(rules)
}

/// What drops packets at this hook, if anything does: the policy of the chain, or a rule without conditions.
fn obstacle(rules: &str, hook: Hook, iptables: &str, link: &str) -> Option<Obstacle> {
    let chain = hook.chain();
    let lines: Vec<Vec<&str>> = rules.lines().map(|line| line.split(' ').collect()).collect();
    let drops = lines.iter().any(|words| match words.as_slice() {
        [name, "DROP", ..] => name.strip_prefix(':') == Some(chain),
        ["-A", name, "-j", "DROP" | "REJECT", ..] => *name == chain,
        _ => false,
    });
    let accepts = |accepted: &dyn Fn(&[&str]) -> bool| {
        lines.iter().any(|words| words.ends_with(&["-j", "ACCEPT"]) && words.windows(2).any(accepted))
    };
    let of_uplink = |option: &'static str| {
        move |pair: &[&str]| {
            let name = pair[1];
            let fits = name == link
                || name.strip_suffix('+').is_some_and(|start| !start.is_empty() && link.starts_with(start));
            pair[0] == option && fits
        }
    };
    let passes = match hook {
        Hook::Forward => accepts(&of_uplink("-i")) && accepts(&of_uplink("-o")),
        Hook::Input => {
            let enters = |words: &Vec<&str>| {
                words.starts_with(&["-A", chain])
                    && words.ends_with(&["-j", "ACCEPT"])
                    && words.windows(2).any(of_uplink("-i"))
            };
            let translated = |pair: &[&str]| pair[0] == "--ctstate" && pair[1].split(',').any(|state| state == "DNAT");
            lines.iter().any(enters) || accepts(&translated)
        }
    };
    let has_docker = lines.iter().any(|words| words[0] == ":DOCKER-USER");
    let what = format!("chain {chain} of iptables-legacy");
    (drops && !passes).then(|| Obstacle { what, mend: hook.mend(iptables, has_docker) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: &str = "nsc0a1b2c3d";

    fn what(rules: &str, hook: Hook) -> Option<String> {
        obstacle(rules, hook, "iptables-legacy", LINK).map(|obstacle| obstacle.what)
    }

    #[test]
    fn policies_and_rules_without_conditions_drop() {
        let rules = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n\
                     -A INPUT -i lo -j ACCEPT\n-A INPUT -j REJECT --reject-with icmp-port-unreachable\nCOMMIT\n";
        assert_eq!(what(rules, Hook::Forward).as_deref(), Some("chain FORWARD of iptables-legacy"));
        assert_eq!(what(rules, Hook::Input).as_deref(), Some("chain INPUT of iptables-legacy"));
        let rules = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n-A FORWARD -s 10.0.0.0/8 -j DROP\nCOMMIT\n";
        assert_eq!((what(rules, Hook::Forward), what(rules, Hook::Input)), (None, None));
    }

    #[test]
    fn what_the_command_adds_lets_uplinks_through() {
        let rules = "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n-A INPUT -d 127.0.0.1/32 -i nsc+ -j ACCEPT\n\
                     -A FORWARD -i nsc+ -j ACCEPT\n-A FORWARD -o nsc+ -j ACCEPT\nCOMMIT\n";
        assert_eq!((what(rules, Hook::Forward), what(rules, Hook::Input)), (None, None));
        let half = rules.replace("-A FORWARD -o nsc+ -j ACCEPT\n", "").replace("-A INPUT", "-A OUTPUT");
        assert!(what(&half, Hook::Forward).is_some() && what(&half, Hook::Input).is_some());
    }
}
