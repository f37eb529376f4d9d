//! Rules of others that drop what goes through uplinks: those of Docker, ufw, firewalld, and an administrator's own.
//!
//! A packet has to be accepted in every base chain of a hook; to accept it in ours does not help where another one drops it
//! (nft(8), "verdict statements"). And to change rules of others is not for us. So it is found out, and said.
//!
//! What is forwarded, between stacks and the network, comes by the hook `forward`. What a service sends to the host's loopback, as
//! `host.docker.internal`, comes by `input`, with an address of loopback by then.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Value, json};

use super::{
    forwarding::{self, LINK, objects},
    legacy,
    nft::{self, NftError},
};
use crate::model::Family;

/// Rules of somebody else that keep stacks from the outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Which, for people.
    pub what: String,
    /// The command that mends it.
    pub mend: String,
}

/// What is known of the rules of others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Foreign {
    /// What drops packets between stacks and the network.
    pub forward: Option<Obstacle>,
    /// What drops packets from services to the host's loopback.
    pub input: Option<Obstacle>,
    /// Rules that nothing on this host can show, which may drop them or not.
    pub unseen: Option<Obstacle>,
}

/// A hook of the kernel's, by which packets of an uplink come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hook {
    /// For somebody else.
    Forward,
    /// For the host.
    Input,
}

impl Hook {
    /// As nft has it.
    fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Input => "input",
        }
    }

    /// As iptables has it.
    pub(super) fn chain(self) -> &'static str {
        match self {
            Self::Forward => "FORWARD",
            Self::Input => "INPUT",
        }
    }

    /// The command that lets through what uplinks need, with an `iptables` of either kind.
    pub(super) fn mend(self, iptables: &str, has_docker: bool) -> String {
        match self {
            Self::Forward => {
                let chain = if has_docker { "DOCKER-USER" } else { "FORWARD" };
                format!("{iptables} -I {chain} -i {LINK}+ -j ACCEPT && {iptables} -I {chain} -o {LINK}+ -j ACCEPT")
            }
            Self::Input => format!("{iptables} -I INPUT -i {LINK}+ -d 127.0.0.1 -j ACCEPT"),
        }
    }
}

/// What there is of them for a family. Rules that cannot be listed are taken for none.
///
/// # Errors
/// [`NftError::Slow`]: there is no use in asking any more.
pub(super) async fn rules(program: &Path, link: &str, family: Family) -> Result<Foreign, NftError> {
    let chains = known(nft::list(program, json!({ "chains": null })).await)?.unwrap_or_default();
    let matters = |chain: &&Value| [Hook::Forward, Hook::Input].iter().any(|hook| is_at(chain, *hook, family));
    let tables: BTreeSet<_> = objects(&chains, "chain").filter(matters).map(table_of).collect();
    // One by one: nft fetches no more than the one, and for a list of all rules those of all stacks that there are, too.
    let lists = tables.into_iter().map(async |(family, name)| {
        let list = known(nft::list(program, json!({ "table": { "family": family, "name": name } })).await)?;
        Ok(list.map(|list| ((family, name), objects(&list, "rule").cloned().collect())))
    });
    // One that has gone meanwhile drops nothing.
    let rules: Rules<'_> = futures_util::future::try_join_all(lists).await?.into_iter().flatten().collect();
    let find = |hook| obstacle(&chains, &rules, hook, link, family);
    match family {
        Family::V4 => {
            let legacy = legacy::rules(link).await;
            Ok(Foreign {
                forward: find(Hook::Forward).or(legacy.forward),
                input: find(Hook::Input).or(legacy.input),
                unseen: legacy.unseen,
            })
        }
        // The host is `host.docker.internal` by IPv4 only.
        Family::V6 => Ok(Foreign { forward: find(Hook::Forward), ..Foreign::default() }),
    }
}

/// Rules by family and name of their table.
type Rules<'a> = BTreeMap<(&'a str, &'a str), Vec<Value>>;

fn table_of(object: &Value) -> (&str, &str) {
    (text(object, "family"), text(object, "table"))
}

fn known(answer: Result<Value, NftError>) -> Result<Option<Value>, NftError> {
    match answer {
        Err(slow @ NftError::Slow { .. }) => Err(slow),
        answer => Ok(answer.ok()),
    }
}

/// What drops packets at this hook, if anything does.
fn obstacle(chains: &Value, rules: &Rules<'_>, hook: Hook, link: &str, of: Family) -> Option<Obstacle> {
    let listed = |chain: &&Value| rules.contains_key(&table_of(chain));
    let candidates = objects(chains, "chain").filter(|chain| is_at(chain, hook, of)).filter(listed);
    let blocking = candidates.into_iter().find(|chain| {
        let of_chain = reached(rules, chain);
        let own = |rule: &&&Value| text(rule, "chain") == text(chain, "name");
        let drops = text(chain, "policy") == "drop"
            // Those of firewalld accept, and reject in their last rule.
            || text(chain, "table") == "firewalld"
            || of_chain.iter().filter(own).any(|rule| drops_all(rule));
        let accepts = |meta: &str| of_chain.iter().any(|rule| accepts_uplinks(rule, meta, link));
        drops
            && match hook {
                Hook::Forward => !(accepts("iifname") && accepts("oifname")),
                Hook::Input => !(accepts("iifname") || of_chain.iter().any(|rule| accepts_translated(rule))),
            }
    })?;
    let (family, table, name) = (text(blocking, "family"), text(blocking, "table"), text(blocking, "name"));
    let is_docker = |chain: &Value| text(chain, "name") == "DOCKER-USER" && text(chain, "family") == family;
    let has_docker = objects(chains, "chain").any(is_docker);
    let by_ufw = || {
        let jumps = |rule: &&Value| {
            let parts = rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
            parts.iter().any(|part| text(&part["jump"], "target").starts_with("ufw-"))
        };
        reached(rules, blocking).iter().any(jumps)
    };
    let mend = if matches!(family, "ip" | "ip6") && table == "filter" && name == hook.chain() {
        // Ufw keeps its own rules over a restart, and takes away those of others when it is reloaded.
        match hook {
            Hook::Forward if by_ufw() => format!("ufw route allow in on {LINK}+ && ufw route allow out on {LINK}+"),
            Hook::Input if by_ufw() => format!("ufw allow in on {LINK}+ to 127.0.0.1"),
            _ => hook.mend(if family == "ip" { "iptables" } else { "ip6tables" }, has_docker),
        }
    } else if table == "firewalld" {
        "firewall-cmd --permanent --zone=trusted --add-interface=nsc+ && firewall-cmd --reload".to_owned()
    } else {
        let insert = |matched: &str| format!("nft insert rule {family} {table} {name} {matched} accept");
        match hook {
            Hook::Forward => {
                format!("{} && {}", insert("iifname '\"nsc*\"'"), insert("oifname '\"nsc*\"'"))
            }
            Hook::Input => insert("iifname '\"nsc*\"' ip daddr 127.0.0.1"),
        }
    };
    Some(Obstacle { what: format!("chain {name} of table {family} {table}"), mend })
}

/// A base chain of somebody else that every packet of this family at this hook comes by.
fn is_at(chain: &Value, hook: Hook, family: Family) -> bool {
    let own = match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    };
    let of_family = text(chain, "family") == own || text(chain, "family") == "inet";
    let foreign = !forwarding::is_ours(text(chain, "table"));
    of_family && foreign && text(chain, "hook") == hook.name() && text(chain, "type") == "filter"
}

/// The rules of a base chain and of those that it leads to.
fn reached<'a>(rules: &'a Rules<'_>, base: &'a Value) -> Vec<&'a Value> {
    let table = rules.get(&table_of(base)).map(Vec::as_slice).unwrap_or_default();
    let mut chains = BTreeSet::from([text(base, "name")]);
    let mut found: Vec<&Value> = Vec::new();
    loop {
        let more: Vec<&Value> = table
            .iter()
            .filter(|rule| chains.contains(text(rule, "chain")))
            .filter(|rule| !found.iter().any(|known| std::ptr::eq(*known, *rule)))
            .collect();
        if more.is_empty() {
            return found;
        }
        more.iter().for_each(|rule| targets(&rule["expr"], &mut chains));
        found.extend(more);
    }
}

/// Where a rule leads, verdict maps included.
fn targets<'a>(value: &'a Value, chains: &mut BTreeSet<&'a str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| targets(item, chains)),
        Value::Object(members) => {
            for (key, member) in members {
                match member["target"].as_str() {
                    Some(target) if matches!(key.as_str(), "jump" | "goto") => _ = chains.insert(target),
                    _ => targets(member, chains),
                }
            }
        }
        _ => {}
    }
}

/// A rule that drops whatever comes to it.
fn drops_all(rule: &Value) -> bool {
    let mut drops = false;
    let all = parts(rule).iter().all(|part| {
        let verdict = part.get("drop").is_some() || part.get("reject").is_some();
        drops |= verdict;
        verdict || part.get("counter").is_some() || part.get("log").is_some()
    });
    all && drops
}

/// A rule that matches the name of an interface that uplinks have, and accepts.
fn accepts_uplinks(rule: &Value, meta: &str, link: &str) -> bool {
    let matches = parts(rule).iter().any(|part| {
        let matched = &part["match"];
        let name = matched["right"].as_str().unwrap_or_default();
        matched["left"]["meta"]["key"] == meta
            && matched["op"] == "=="
            && (name == link
                || name.strip_suffix('*').is_some_and(|start| !start.is_empty() && link.starts_with(start)))
    });
    // In firewalld the chain of a zone decides, and that of `trusted` accepts.
    let trusts =
        |part: &Value| ["goto", "jump"].iter().any(|verdict| text(&part[verdict], "target").ends_with("_trusted"));
    matches && parts(rule).iter().any(|part| part.get("accept").is_some() || trusts(part))
}

/// A rule that accepts what somebody's DNAT has sent here, as ours does what is for the host's loopback.
fn accepts_translated(rule: &Value) -> bool {
    let matches = parts(rule).iter().any(|part| {
        let matched = &part["match"];
        let named = |status: &Value| status == "dnat";
        matched["left"]["ct"]["key"] == "status"
            && matched["op"] != "!="
            && (named(&matched["right"]) || matched["right"].as_array().is_some_and(|all| all.iter().any(named)))
    });
    matches && parts(rule).iter().any(|part| part.get("accept").is_some())
}

fn parts(rule: &Value) -> &[Value] {
    rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}
