//! Rules of others that drop what is forwarded: those of Docker, ufw, firewalld.
//!
//! A packet has to be accepted in every base chain of a hook; to accept it in ours does not help where another one drops it
//! (nft(8), "verdict statements"). And to change rules of others is not for us. So it is found out, and said.

use std::path::Path;

use super::{forwarding::objects, nft};
use crate::model::Family;

/// Rules of somebody else that keep stacks from the outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Which, for people.
    pub what: String,
    /// The command that mends it.
    pub mend: String,
}

/// What drops packets of this family that go through uplinks, if anything does. Rules that cannot be listed are taken for none.
pub(super) async fn obstacle(program: &Path, link: &str, of: Family) -> Option<Obstacle> {
    let chains = nft::ask(program, &["list", "chains"]).await.ok()?;
    let blocking = objects(&chains, "chain").find(|chain| blocks(chain, of))?;
    let rules = nft::ask(program, &["list", "ruleset"]).await.ok()?;
    let (family, table, name) = (text(blocking, "family"), text(blocking, "table"), text(blocking, "name"));
    let in_table = |rule: &&serde_json::Value| text(rule, "family") == family && text(rule, "table") == table;
    let accepts = |meta: &str| objects(&rules, "rule").filter(in_table).any(|rule| accepts_uplinks(rule, meta, link));
    if accepts("iifname") && accepts("oifname") {
        return None;
    }
    let has_chain = |wanted: &str| {
        objects(&chains, "chain").any(|chain| text(chain, "name") == wanted && text(chain, "family") == family)
    };
    let mend = if matches!(family, "ip" | "ip6") && table == "filter" && name == "FORWARD" {
        let chain = if has_chain("DOCKER-USER") { "DOCKER-USER" } else { "FORWARD" };
        let program = if family == "ip" { "iptables" } else { "ip6tables" };
        format!("{program} -I {chain} -i nsc+ -j ACCEPT && {program} -I {chain} -o nsc+ -j ACCEPT")
    } else if table == "firewalld" {
        format!("firewall-cmd --zone=trusted --add-interface={link}")
    } else {
        format!(
            "nft insert rule {family} {table} {name} iifname '\"nsc*\"' accept && \
             nft insert rule {family} {table} {name} oifname '\"nsc*\"' accept"
        )
    };
    Some(Obstacle { what: format!("chain {name} of table {family} {table}"), mend })
}

/// A base chain that drops what nobody has accepted. That of firewalld accepts, and rejects in its last rule.
fn blocks(chain: &serde_json::Value, of: Family) -> bool {
    let own = if of == Family::V4 { "ip" } else { "ip6" };
    let concerned = text(chain, "family") == own || text(chain, "family") == "inet";
    let firewalld = text(chain, "table") == "firewalld";
    let drops = text(chain, "policy") == "drop" || firewalld;
    concerned && text(chain, "hook") == "forward" && text(chain, "type") == "filter" && drops
}

/// A rule that matches the name of an interface that uplinks have, and accepts.
fn accepts_uplinks(rule: &serde_json::Value, meta: &str, link: &str) -> bool {
    let parts = rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
    let matches = parts.iter().any(|part| {
        let matched = &part["match"];
        let name = matched["right"].as_str().unwrap_or_default();
        matched["left"]["meta"]["key"] == meta
            && matched["op"] == "=="
            && (name == link
                || name.strip_suffix('*').is_some_and(|start| !start.is_empty() && link.starts_with(start)))
    });
    // In firewalld the chain of a zone decides, and that of `trusted` accepts.
    let trusts = |part: &serde_json::Value| {
        ["goto", "jump"].iter().any(|verdict| text(&part[verdict], "target").ends_with("_trusted"))
    };
    matches && parts.iter().any(|part| part.get("accept").is_some() || trusts(part))
}

fn text<'a>(object: &'a serde_json::Value, key: &str) -> &'a str {
    object[key].as_str().unwrap_or_default()
}
