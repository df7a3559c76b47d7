//! Which names lately stood for which addresses, as we told the guest ourselves.
//!
//! A connection is made to an address; rules speak of names. This is the way from one to the other. Only our own answers
//! count, and only for a while: what the guest asks elsewhere, guesses, or kept for too long stands for no name.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::address::unwrapped;
use crate::limits::{LEARNED_ADDRESSES_MAX, LEARNED_LIMIT, LEARNED_NAMES_MAX};

/// The memory.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    names: HashMap<IpAddr, Vec<Learnt>>,
}

#[derive(Debug, Clone)]
struct Learnt {
    name: String,
    at: Instant,
}

impl Learned {
    /// Notes that the guest was told that `name` has this address.
    pub(crate) fn learn(&mut self, name: &str, address: IpAddr, now: Instant) {
        let address = unwrapped(address);
        if !self.names.contains_key(&address) && self.names.len() >= LEARNED_ADDRESSES_MAX {
            self.make_room(now);
        }
        let names = self.names.entry(address).or_default();
        names.retain(|learnt| learnt.name != name && is_fresh(learnt.at, now));
        if names.len() >= LEARNED_NAMES_MAX {
            names.remove(0);
        }
        names.push(Learnt { name: name.to_owned(), at: now });
    }

    /// The names that stand for `address`, the one that was asked for last in front.
    pub(crate) fn names(&self, address: IpAddr, now: Instant) -> impl Iterator<Item = &str> {
        let names = self.names.get(&unwrapped(address)).map_or(&[] as &[Learnt], Vec::as_slice);
        names.iter().rev().filter(move |learnt| is_fresh(learnt.at, now)).map(|learnt| learnt.name.as_str())
    }

    /// Forgets what is too old and, if that is nothing, what is oldest.
    fn make_room(&mut self, now: Instant) {
        self.names.retain(|_, names| names.iter().any(|learnt| is_fresh(learnt.at, now)));
        if self.names.len() >= LEARNED_ADDRESSES_MAX {
            let age = |names: &Vec<Learnt>| names.iter().map(|learnt| learnt.at).max();
            let oldest = self.names.iter().min_by_key(|(_, names)| age(names)).map(|(address, _)| *address);
            if let Some(address) = oldest {
                self.names.remove(&address);
            }
        }
    }
}

fn is_fresh(at: Instant, now: Instant) -> bool {
    now.checked_duration_since(at).unwrap_or(Duration::ZERO) <= LEARNED_LIMIT
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::{Duration, Instant};

    use super::Learned;
    use crate::limits::{LEARNED_ADDRESSES_MAX, LEARNED_LIMIT, LEARNED_NAMES_MAX};

    fn address(number: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(u32::try_from(number).unwrap() + 0x0101_0101))
    }

    #[test]
    fn a_name_stands_for_an_address_for_a_while() {
        let mut learned = Learned::default();
        let start = Instant::now();
        learned.learn("a.example", address(1), start);
        learned.learn("b.example", address(1), start + Duration::from_secs(1));
        let names =
            |learned: &Learned, after| learned.names(address(1), start + after).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(names(&learned, Duration::from_secs(2)), ["b.example", "a.example"]);
        assert_eq!(names(&learned, LEARNED_LIMIT + Duration::from_millis(500)), ["b.example"]);
        assert!(names(&learned, LEARNED_LIMIT * 2).is_empty());
        assert_eq!(learned.names(address(2), start).count(), 0);
        learned.learn("a.example", address(1), start + LEARNED_LIMIT);
        assert_eq!(names(&learned, LEARNED_LIMIT * 2), ["a.example"]);
    }

    #[test]
    fn whoever_asks_for_very_many_names_fills_no_memory() {
        let mut learned = Learned::default();
        let now = Instant::now();
        for number in 0..LEARNED_ADDRESSES_MAX + 10 {
            learned.learn("a.example", address(number), now + Duration::from_millis(number as u64));
        }
        assert_eq!(learned.names.len(), LEARNED_ADDRESSES_MAX);
        assert!(learned.names(address(LEARNED_ADDRESSES_MAX + 9), now).next().is_some(), "the last one is known");
        for number in 0..LEARNED_NAMES_MAX + 10 {
            learned.learn(&format!("{number}.example"), address(20), now);
        }
        assert_eq!(learned.names(address(20), now).count(), LEARNED_NAMES_MAX);
    }
}
