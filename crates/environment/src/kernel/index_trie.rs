//! The binary index of kmod: a trie in which `modprobe` finds the values of a key without reading the whole file.
//!
//! Numbers are big-endian. A node is: its prefix and NUL (if it has one); the first and the last byte of its children and
//! an offset for each between (if it has any); the number of its values, and a priority and a NUL-ended text for each
//! (if it has any). Which of the three it has is told by the top bits of the offset that leads to it.

use std::collections::BTreeMap;

const MAGIC: u32 = 0xb007_f457;
const VERSION: u32 = 0x0002_0001;
const HAS_PREFIX: u32 = 0x8000_0000;
const HAS_VALUES: u32 = 0x4000_0000;
const HAS_CHILDREN: u32 = 0x2000_0000;

/// Keys and their values; the values of a key are found in the order of their priority.
#[derive(Debug, Default)]
pub(super) struct IndexTrie {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    prefix: Vec<u8>,
    children: BTreeMap<u8, Node>,
    values: Vec<(u32, String)>,
}

impl IndexTrie {
    pub(super) fn insert(&mut self, key: &str, value: &str, priority: u32) {
        self.root.insert(key.as_bytes(), value, priority);
    }

    /// The bytes of the index file.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&MAGIC.to_be_bytes());
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let root = self.root.encode(&mut bytes);
        bytes[8..12].copy_from_slice(&root.to_be_bytes());
        bytes
    }
}

impl Node {
    fn insert(&mut self, key: &[u8], value: &str, priority: u32) {
        let common = self.prefix.iter().zip(key).take_while(|(own, other)| own == other).count();
        if common < self.prefix.len() {
            self.split(common);
        }
        match key[common..].split_first() {
            None => {
                let at = self.values.partition_point(|(existing, _)| *existing <= priority);
                self.values.insert(at, (priority, value.to_owned()));
            }
            Some((byte, rest)) => {
                let child =
                    self.children.entry(*byte).or_insert_with(|| Self { prefix: rest.to_vec(), ..Self::default() });
                child.insert(rest, value, priority);
            }
        }
    }

    /// Leaves `length` bytes of the prefix here and moves everything else into a child.
    fn split(&mut self, length: usize) {
        let rest = self.prefix.split_off(length);
        let child = Self {
            prefix: rest[1..].to_vec(),
            children: std::mem::take(&mut self.children),
            values: std::mem::take(&mut self.values),
        };
        self.children.insert(rest[0], child);
    }

    /// Writes the children, then the node; answers where it is and what it has.
    fn encode(&self, bytes: &mut Vec<u8>) -> u32 {
        let offsets: BTreeMap<u8, u32> =
            self.children.iter().map(|(byte, child)| (*byte, child.encode(bytes))).collect();
        let mut offset = bytes.len() as u32;
        if !self.prefix.is_empty() {
            bytes.extend_from_slice(&self.prefix);
            bytes.push(0);
            offset |= HAS_PREFIX;
        }
        if let (Some((first, _)), Some((last, _))) = (offsets.first_key_value(), offsets.last_key_value()) {
            bytes.extend_from_slice(&[*first, *last]);
            for byte in *first..=*last {
                bytes.extend_from_slice(&offsets.get(&byte).copied().unwrap_or(0).to_be_bytes());
            }
            offset |= HAS_CHILDREN;
        }
        if !self.values.is_empty() {
            bytes.extend_from_slice(&(self.values.len() as u32).to_be_bytes());
            for (priority, value) in &self.values {
                bytes.extend_from_slice(&priority.to_be_bytes());
                bytes.extend_from_slice(value.as_bytes());
                bytes.push(0);
            }
            offset |= HAS_VALUES;
        }
        offset
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{HAS_CHILDREN, HAS_PREFIX, HAS_VALUES, IndexTrie};

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    /// Finds a key as kmod does.
    fn find(bytes: &[u8], key: &str) -> Vec<String> {
        let mut key = key.as_bytes();
        let mut node = word(bytes, 8);
        loop {
            let mut at = (node & 0x0fff_ffff) as usize;
            if node & HAS_PREFIX != 0 {
                let end = at + bytes[at..].iter().position(|byte| *byte == 0).unwrap();
                let Some(rest) = key.strip_prefix(&bytes[at..end]) else { return Vec::new() };
                key = rest;
                at = end + 1;
            }
            let mut children = None;
            if node & HAS_CHILDREN != 0 {
                let (first, last) = (bytes[at], bytes[at + 1]);
                children = Some((first, last, at + 2));
                at += 2 + 4 * (usize::from(last - first) + 1);
            }
            if let Some((byte, rest)) = key.split_first() {
                let Some((first, last, table)) = children else { return Vec::new() };
                if *byte < first || *byte > last {
                    return Vec::new();
                }
                node = word(bytes, table + 4 * usize::from(byte - first));
                if node == 0 {
                    return Vec::new();
                }
                key = rest;
                continue;
            }
            if node & HAS_VALUES == 0 {
                return Vec::new();
            }
            let count = word(bytes, at);
            at += 4;
            return (0..count)
                .map(|_| {
                    let end = at + 4 + bytes[at + 4..].iter().position(|byte| *byte == 0).unwrap();
                    let value = String::from_utf8(bytes[at + 4..end].to_vec()).unwrap();
                    at = end + 1;
                    value
                })
                .collect();
        }
    }

    proptest! {
        #[test]
        fn every_key_is_found_with_its_values(keys in proptest::collection::vec("[a-c]{0,5}", 0..40)) {
            let mut trie = IndexTrie::default();
            let mut expected: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            for (priority, key) in keys.iter().enumerate() {
                trie.insert(key, &priority.to_string(), priority as u32);
                expected.entry(key).or_default().push(priority.to_string());
            }
            let bytes = trie.encode();
            for (key, values) in &expected {
                prop_assert_eq!(&find(&bytes, key), values);
            }
            prop_assert!(find(&bytes, "zz").is_empty());
        }
    }
}
