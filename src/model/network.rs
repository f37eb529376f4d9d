//! Networks of a file and how a service joins one.

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::NetworkName;

/// A network of the file: one bridge, in the network namespace of the stack or, for one that stacks share, in its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// The shared network that it is (`external`, `nscompose network create`), which says what else there is to say; none
    /// is one of the stack's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<NetworkName>,
    /// What one of the stack's own is called outside of the file; none is `PROJECT_NETWORK`. Containers find each other with
    /// it as a domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<NetworkName>,
    /// How IPv4 addresses are given out; none is none of them.
    #[serde(skip_serializing_if = "is_chosen_by_plan")]
    pub ipv4: Option<Addressing>,
    /// The same of IPv6.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Addressing>,
    /// Nothing on it gets a way out.
    #[serde(skip_serializing_if = "is_default")]
    pub internal: bool,
    /// More about its bridge.
    #[serde(skip_serializing_if = "is_default")]
    pub bridge: BridgeOptions,
}

/// What nobody has said anything of is not written down.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn is_chosen_by_plan(addressing: &Option<Addressing>) -> bool {
    addressing.as_ref().is_some_and(is_default)
}

impl Default for Network {
    fn default() -> Self {
        Self {
            external: None,
            name: None,
            ipv4: Some(Addressing::default()),
            ipv6: None,
            internal: false,
            bridge: BridgeOptions::default(),
        }
    }
}

impl Network {
    /// What is said of addresses of each family.
    pub fn addressing(&self) -> impl Iterator<Item = (Family, &Addressing)> {
        let four = self.ipv4.iter().map(|addressing| (Family::V4, addressing));
        four.chain(self.ipv6.iter().map(|addressing| (Family::V6, addressing)))
    }
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// How addresses of one family are given out on a network; what is not said the plan chooses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Addressing {
    /// All addresses of the network.
    pub subnet: Option<IpNet>,
    /// Those of which the ones that nobody has chosen are; none is the whole subnet.
    #[serde(default)]
    pub range: Option<IpNet>,
    /// That of the bridge; none is the first of the subnet.
    #[serde(default)]
    pub gateway: Option<IpAddr>,
    /// Addresses that belong to somebody else, by host name.
    #[serde(default)]
    pub reserved: BTreeMap<String, IpAddr>,
}

/// What `driver_opts` say of a bridge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeOptions {
    /// Name of its interface (`com.docker.network.bridge.name`), at most 15 bytes.
    pub name: Option<String>,
    /// Services on it reach each other (`com.docker.network.bridge.enable_icc`).
    pub icc: bool,
    /// What leaves the stack from it has the address of the host (`com.docker.network.bridge.enable_ip_masquerade`).
    pub masquerade: bool,
    /// Address of the host that ports are published at which name none (`com.docker.network.bridge.host_binding_ipv4`).
    pub host_binding: Option<Ipv4Addr>,
    /// Largest packet (`com.docker.network.driver.mtu`), in bytes.
    pub mtu: Option<u32>,
    /// What names of interfaces in containers begin with (`com.docker.network.container_iface_prefix`); none is `eth`.
    pub interface_prefix: Option<String>,
}

impl Default for BridgeOptions {
    fn default() -> Self {
        Self { name: None, icc: true, masquerade: true, host_binding: None, mtu: None, interface_prefix: None }
    }
}

/// Where subnets of networks come from that name none: `BASE/PREFIX:SIZE`, all subnets with a prefix of SIZE bits in BASE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressPool {
    base: IpNet,
    size: u8,
}

/// A text that is no pool of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a pool of addresses: {rule}")]
pub struct InvalidAddressPool {
    text: String,
    rule: &'static str,
}

impl AddressPool {
    /// All addresses of the pool.
    pub fn base(self) -> IpNet {
        self.base
    }

    /// Length of the prefix of its subnets, in bits.
    pub fn size(self) -> u8 {
        self.size
    }
}

impl FromStr for AddressPool {
    type Err = InvalidAddressPool;

    fn from_str(text: &str) -> Result<Self, InvalidAddressPool> {
        let wrong = |rule| InvalidAddressPool { text: text.to_owned(), rule };
        // Addresses of IPv6 have colons too; what is behind the last one is the size, since a prefix comes before it.
        let (base, size) =
            text.rsplit_once(':').ok_or_else(|| wrong("write `BASE/PREFIX:SIZE`, such as `10.10.0.0/16:24`"))?;
        let base: IpNet = base
            .parse()
            .map_err(|_| wrong("the part before the last `:` has to be a subnet, such as `10.10.0.0/16`"))?;
        let size: u8 =
            size.parse().map_err(|_| wrong("what is behind the last `:` has to be the length of a prefix"))?;
        let longest = if base.addr().is_ipv4() { 30 } else { 126 };
        if base.trunc() != base {
            return Err(wrong("its base is an address in a subnet, and not the subnet"));
        }
        if size < base.prefix_len() || size > longest {
            return Err(wrong("its subnets are longer than the base, and at most /30, or /126 of IPv6"));
        }
        Ok(Self { base, size })
    }
}

impl TryFrom<String> for AddressPool {
    type Error = InvalidAddressPool;

    fn try_from(text: String) -> Result<Self, InvalidAddressPool> {
        text.parse()
    }
}

impl From<AddressPool> for String {
    fn from(pool: AddressPool) -> Self {
        pool.to_string()
    }
}

impl fmt::Display for AddressPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.base, self.size)
    }
}

/// One network that a service is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAttachment {
    /// The network, declared in the file or the implicit `default`.
    pub network: NetworkName,
    /// Further names under which the service is found on this network.
    pub aliases: Vec<String>,
    /// Its IPv4 address there; none lets the plan choose.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ipv4: Option<Ipv4Addr>,
    /// The same of IPv6.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ipv6: Option<Ipv6Addr>,
    /// Further addresses of its interface, which reach no further than the network.
    #[serde(default, skip_serializing_if = "is_default")]
    pub link_local: Vec<IpAddr>,
    /// Hardware address of its interface; none lets the kernel choose.
    #[serde(default, skip_serializing_if = "is_default")]
    pub mac: Option<MacAddress>,
    /// Name of its interface; none lets the plan choose.
    #[serde(default, skip_serializing_if = "is_default")]
    pub interface: Option<String>,
    /// The network with the highest one is the way out; of equals the first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub gateway_priority: i64,
    /// Kernel parameters of its interface: names relative to /proc/sys with `IFNAME` for the interface, and values.
    #[serde(default, skip_serializing_if = "is_default")]
    pub sysctls: BTreeMap<String, String>,
}

impl NetworkAttachment {
    /// With nothing said but the network.
    pub fn to(network: NetworkName) -> Self {
        Self {
            network,
            aliases: Vec::new(),
            ipv4: None,
            ipv6: None,
            link_local: Vec::new(),
            mac: None,
            interface: None,
            gateway_priority: 0,
            sysctls: BTreeMap::new(),
        }
    }

    /// The address of this family that it has been given.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.ipv4.map(IpAddr::V4),
            Family::V6 => self.ipv6.map(IpAddr::V6),
        }
    }
}

/// A hardware address of one interface (EUI-48): six bytes, of no group and not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress([u8; 6]);

/// A text that is no hardware address of an interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a hardware address of an interface: {rule}")]
pub struct InvalidMacAddress {
    text: String,
    rule: &'static str,
}

impl MacAddress {
    /// Its bytes.
    pub fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for MacAddress {
    type Err = InvalidMacAddress;

    fn from_str(text: &str) -> Result<Self, InvalidMacAddress> {
        let wrong = |rule| InvalidMacAddress { text: text.to_owned(), rule };
        let separator = if text.contains('-') { '-' } else { ':' };
        let byte = |part: &str| {
            let digits = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            if digits { u8::from_str_radix(part, 16).ok() } else { None }
        };
        let bytes: Option<Vec<u8>> = text.split(separator).map(byte).collect();
        let bytes = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
        match bytes {
            None => Err(wrong("write six bytes, such as `02:42:ac:11:00:02`")),
            // IEEE 802: the lowest bit of the first byte is set for groups. The kernel takes neither (is_valid_ether_addr).
            Some(bytes) if bytes[0] & 1 != 0 => Err(wrong("it is that of a group; the first byte has to be even")),
            Some([0, 0, 0, 0, 0, 0]) => Err(wrong("it is nobody's")),
            Some(bytes) => Ok(Self(bytes)),
        }
    }
}

impl TryFrom<String> for MacAddress {
    type Error = InvalidMacAddress;

    fn try_from(text: String) -> Result<Self, InvalidMacAddress> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(mac: MacAddress) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// Whether the kernel takes this as the name of an interface (dev_valid_name, net/core/dev.c): at most 15 bytes, without
/// blanks, `/` and `:`.
pub fn is_interface_name(name: &str) -> bool {
    let valid = |b: u8| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%');
    !name.is_empty()
        && name.len() <= 15
        && name.bytes().all(valid)
        && !matches!(name, "." | ".." | "lo" | "all" | "default")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses() {
        let parsed = |text: &str| text.parse::<MacAddress>().map(|mac| mac.to_string());
        assert_eq!(parsed("02:42:AC:11:00:02"), Ok("02:42:ac:11:00:02".to_owned()));
        assert_eq!(parsed("02-42-ac-11-00-02"), Ok("02:42:ac:11:00:02".to_owned()));
        for wrong in
            ["", "02:42:ac:11:00", "02:42:ac:11:00:2", "+2:42:ac:11:00:02", "01:00:5e:00:00:01", "00:00:00:00:00:00"]
        {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_of_interfaces() {
        assert!(is_interface_name("eth0") && is_interface_name("a-name.of_15byt"));
        for wrong in ["", "a name", "a/b", "a:1", "lo", "..", "sixteen-bytes-xx", "br%d", "ü"] {
            assert!(!is_interface_name(wrong), "{wrong}");
        }
    }
}
