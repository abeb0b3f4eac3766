//! Whether this host's own network works, whoever else may be away: a link, a
//! default route, and a gateway that answers.
//!
//! Routes are read from `/proc/net/route` and `/proc/net/ipv6_route`, proc(5).
//! A gateway answers if it refuses a connection or takes it, or if the kernel
//! has learned its address on the link (`/proc/net/arp`).

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Limit for one gateway: the kernel gives up looking for a neighbour after some 3 s.
const GATEWAY: Duration = Duration::from_secs(4);
/// Port of the discard service: hardly anybody listens there.
const PORT: u16 = 9;
/// Largest part of a table that is read, in bytes: a kernel's is longer only where nobody
/// looks at it so.
const TABLE: u64 = 1 << 20;

/// Default route, with its gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Route {
    interface: String,
    gateway: IpAddr,
}

/// State of this host's own network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Whether the network works; `None`: that cannot be told.
    pub works: Option<bool>,
    /// Description of the state, for people.
    pub detail: String,
}

/// Looks at this host's network, for a few seconds at most.
pub async fn look() -> Network {
    let routes = default_routes();
    if routes.is_empty() {
        return Network { works: Some(false), detail: "there is no default route".into() };
    }
    let asked = join_all(routes.iter().map(answers));
    let found: Vec<Option<bool>> = asked.await;
    let names = |wanted: Option<bool>| {
        let of = routes.iter().zip(&found).filter(|(_, found)| **found == wanted);
        of.map(|(route, _)| format!("{} on {}", route.gateway, route.interface))
            .collect::<Vec<_>>()
            .join(", ")
    };
    if found.contains(&Some(true)) {
        let detail = format!("the gateway {} answers", names(Some(true)));
        return Network { works: Some(true), detail };
    }
    if found.contains(&None) {
        let detail = format!("whether the gateway {} answers cannot be told", names(None));
        return Network { works: None, detail };
    }
    let detail = format!("the gateway {} does not answer", names(Some(false)));
    Network { works: Some(false), detail }
}

async fn answers(route: &Route) -> Option<bool> {
    if !link_is_up(&route.interface) {
        return Some(false);
    }
    let address = match route.gateway {
        IpAddr::V4(gateway) => SocketAddr::from((gateway, PORT)),
        // An address of the link alone is one only together with the link.
        IpAddr::V6(gateway) => {
            SocketAddrV6::new(gateway, PORT, 0, index(&route.interface).unwrap_or(0)).into()
        }
    };
    match timeout(GATEWAY, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Some(true),
        Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused => Some(true),
        Ok(Err(error))
            if matches!(
                error.kind(),
                ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
            ) =>
        {
            Some(false)
        }
        // Filtered, on the way there or back: it may still be a neighbour.
        Ok(Err(_)) | Err(_) => is_neighbour(route.gateway).then_some(true),
    }
}

fn link_is_up(interface: &str) -> bool {
    let state = Path::new("/sys/class/net").join(interface).join("operstate");
    // Tunnels and the like do not know whether they are up.
    std::fs::read_to_string(state).map_or(true, |state| state.trim() != "down")
}

fn index(interface: &str) -> Option<u32> {
    let file = Path::new("/sys/class/net").join(interface).join("ifindex");
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn is_neighbour(gateway: IpAddr) -> bool {
    let IpAddr::V4(gateway) = gateway else { return false };
    let table = read("/proc/net/arp");
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_whitespace();
        let address = fields.next().and_then(|field| field.parse().ok());
        // 0x2: the entry is complete.
        address == Some(gateway) && fields.nth(1) == Some("0x2")
    })
}

fn default_routes() -> Vec<Route> {
    let four = read("/proc/net/route");
    let six = read("/proc/net/ipv6_route");
    let mut routes: Vec<Route> = four.lines().skip(1).filter_map(route_four).collect();
    routes.extend(six.lines().filter_map(route_six));
    routes
}

/// Parses a line of `/proc/net/route`, as in
/// `eth0 00000000 0101A8C0 0003 0 0 100 00000000 ...`: interface, destination, gateway,
/// flags; addresses in the machine's byte order.
fn route_four(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [interface, destination, gateway, flags, _, _, _, mask, ..] = fields[..] else {
        return None;
    };
    let hexadecimal = |text: &str| u32::from_str_radix(text, 16).ok();
    let via_gateway = hexadecimal(flags)? & 0x2 != 0;
    let default = hexadecimal(destination)? == 0 && hexadecimal(mask)? == 0;
    let gateway = Ipv4Addr::from(hexadecimal(gateway)?.to_ne_bytes());
    (default && via_gateway).then(|| Route { interface: interface.into(), gateway: gateway.into() })
}

/// Parses a line of `/proc/net/ipv6_route`: destination, its length, source, its length,
/// next hop, metric, two counters, flags and interface, all in hexadecimal.
fn route_six(line: &str) -> Option<Route> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, length, _, _, hop, _, _, _, flags, interface] = fields[..] else { return None };
    let via_gateway = u32::from_str_radix(flags, 16).ok()? & 0x2 != 0;
    let gateway = Ipv6Addr::from(u128::from_str_radix(hop, 16).ok()?);
    let default = length == "00" && !gateway.is_unspecified();
    (default && via_gateway).then(|| Route { interface: interface.into(), gateway: gateway.into() })
}

fn read(table: &str) -> String {
    use std::io::Read as _;
    let mut text = String::new();
    if let Ok(file) = std::fs::File::open(table) {
        let _ = file.take(TABLE).read_to_string(&mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_are_found_among_others() {
        let route = route_four("eth0 00000000 0101A8C0 0003 0 0 100 00000000 0 0 0").unwrap();
        assert_eq!(route.interface, "eth0");
        if cfg!(target_endian = "little") {
            assert_eq!(route.gateway, IpAddr::from([192, 168, 1, 1]));
        }
        for line in [
            "eth0 0001A8C0 00000000 0001 0 0 100 00FFFFFF 0 0 0",
            "tun0 00000000 00000000 0001 0 0 0 00000000 0 0 0",
            "Iface Destination Gateway Flags",
            "",
        ] {
            assert_eq!(route_four(line), None, "{line}");
        }
        let line = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                    fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth0";
        let gateway: Ipv6Addr = "fe80::1".parse().unwrap();
        assert_eq!(route_six(line).unwrap().gateway, IpAddr::from(gateway));
        let rejected = line.replace("fe800000000000000000000000000001", &"0".repeat(32));
        assert_eq!(route_six(&rejected), None);
    }
}
