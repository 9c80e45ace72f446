//! The addresses of this host's interfaces (`wamp-and-rpc.md` 4.1; works without NetworkManager).

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ptr;

/// One address of one interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Name of the interface.
    pub interface: String,
    /// The address.
    pub ip: IpAddr,
    /// Its network mask, of the same family.
    pub mask: IpAddr,
}

impl Address {
    /// The 4 or 16 bytes of the mask, as `get_network_metadata` shows them.
    pub fn mask_bytes(&self) -> Vec<u8> {
        match self.mask {
            IpAddr::V4(mask) => mask.octets().to_vec(),
            IpAddr::V6(mask) => mask.octets().to_vec(),
        }
    }
}

/// Every IPv4 and IPv6 address of every interface, loopback included: what `get_network_metadata` answers.
///
/// # Errors
/// The system's.
#[expect(unsafe_code, reason = "the standard library does not list interfaces")]
pub fn all() -> io::Result<Vec<Address>> {
    let mut first = ptr::null_mut();
    // SAFETY: getifaddrs writes the head of a list into `first`, or fails and leaves nothing to free.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut found = Vec::new();
    let mut entry = first;
    // SAFETY: every entry is valid until freeifaddrs below; `ifa_next` is null or the next one.
    while let Some(interface) = unsafe { entry.as_ref() } {
        entry = interface.ifa_next;
        // SAFETY: both are null or point to a socket address as long as its family says, owned by the list.
        let (ip, mask) = unsafe { (ip(interface.ifa_addr), ip(interface.ifa_netmask)) };
        if let (Some(ip), Some(mask)) = (ip, mask) {
            // SAFETY: the name is a C string owned by the list.
            let name = unsafe { CStr::from_ptr(interface.ifa_name) };
            found.push(Address { interface: name.to_string_lossy().into_owned(), ip, mask });
        }
    }
    // SAFETY: `first` came from getifaddrs and is freed once; nothing borrowed from the list is left.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

/// The address in a socket address of IPv4 or IPv6.
///
/// # Safety
/// `address` is null or points to a socket address that is as long as its family says.
#[expect(unsafe_code, reason = "reads what getifaddrs hands out")]
unsafe fn ip(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: null is checked, and every socket address begins with its family.
    let family = unsafe { address.as_ref() }?.sa_family;
    match libc::c_int::from(family) {
        libc::AF_INET => {
            // SAFETY: by its family it is a sockaddr_in; read without asking for its alignment.
            let address = unsafe { ptr::read_unaligned(address.cast::<libc::sockaddr_in>()) };
            Some(Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes()).into())
        }
        libc::AF_INET6 => {
            // SAFETY: by its family it is a sockaddr_in6; read without asking for its alignment.
            let address = unsafe { ptr::read_unaligned(address.cast::<libc::sockaddr_in6>()) };
            Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// What `get_ipv4_addresses` answers: interface and address, without loopback, the unspecified address and Docker's.
pub fn of_ipv4(addresses: &[Address]) -> Vec<(&str, Ipv4Addr)> {
    let listed = addresses.iter().filter_map(|address| match address.ip {
        IpAddr::V4(ip) => Some((address.interface.as_str(), ip)),
        IpAddr::V6(_) => None,
    });
    listed.filter(|(name, ip)| *ip != Ipv4Addr::LOCALHOST && !ip.is_unspecified() && !name.contains("docker")).collect()
}

/// The address at which the host is known in its network, for `DEVICE_LAN_IP`: the one it would use towards the
/// internet, else the first of an interface that looks like one. Sends nothing.
pub fn primary_ipv4() -> Option<Ipv4Addr> {
    towards_internet().or_else(|| first_fitting(&all().ok()?))
}

/// Connecting a datagram socket only asks for the route.
fn towards_internet() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(8, 8, 8, 8), 80)).ok()?;
    match socket.local_addr().ok()? {
        SocketAddr::V4(address) if !address.ip().is_unspecified() => Some(*address.ip()),
        _ => None,
    }
}

fn first_fitting(addresses: &[Address]) -> Option<Ipv4Addr> {
    let fits = |name: &str, ip: Ipv4Addr| !ip.is_loopback() && !name.starts_with("veth") && !name.starts_with("br-");
    of_ipv4(addresses).into_iter().find(|(name, ip)| fits(name, *ip)).map(|(_, ip)| ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(interface: &str, ip: &str) -> Address {
        Address { interface: interface.to_owned(), ip: ip.parse().unwrap(), mask: "255.255.255.0".parse().unwrap() }
    }

    #[test]
    fn the_loopback_of_this_machine_is_listed() {
        let all = all().unwrap();
        let loopback = all.iter().find(|address| address.ip == Ipv4Addr::LOCALHOST).expect("127.0.0.1 is there");
        assert_eq!((loopback.interface.as_str(), loopback.mask_bytes()), ("lo", vec![255, 0, 0, 0]));
        assert!(of_ipv4(&all).iter().all(|(_, ip)| !ip.is_loopback()));
    }

    #[test]
    fn loopback_and_docker_are_not_listed_and_bridges_are_not_primary() {
        let all = [
            address("lo", "127.0.0.1"),
            address("docker0", "172.17.0.1"),
            address("x", "0.0.0.0"),
            address("eth0", "fe80::1"),
            address("br-1234", "172.18.0.1"),
            address("veth9", "169.254.1.1"),
            address("eth0", "192.168.1.5"),
        ];
        let listed: Vec<_> = of_ipv4(&all).into_iter().map(|(name, _)| name).collect();
        assert_eq!(listed, ["br-1234", "veth9", "eth0"]);
        assert_eq!(first_fitting(&all), Some(Ipv4Addr::new(192, 168, 1, 5)));
        assert_eq!(first_fitting(&all[..6]), None);
        assert_eq!(all[0].mask_bytes(), [255, 255, 255, 0]);
    }

    #[test]
    fn the_primary_address_is_one_of_this_machine() {
        if let Some(ip) = primary_ipv4() {
            assert!(all().unwrap().iter().any(|address| address.ip == ip), "{ip}");
        }
    }
}
