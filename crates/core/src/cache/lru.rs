//! Values by digest, bounded by weight: those used longest ago go first.

use std::collections::{BTreeMap, HashMap};

pub struct Lru<V> {
    limit: u64,
    weight: u64,
    turn: u64,
    values: HashMap<[u8; 32], (V, u64, u64)>,
    order: BTreeMap<u64, [u8; 32]>,
}

impl<V> Lru<V> {
    pub fn new(limit: u64) -> Lru<V> {
        Lru { limit, weight: 0, turn: 0, values: HashMap::new(), order: BTreeMap::new() }
    }

    pub fn has(&self, key: &[u8; 32]) -> bool {
        self.values.contains_key(key)
    }

    pub fn get(&mut self, key: &[u8; 32]) -> Option<&V> {
        let (value, _, turn) = self.values.get_mut(key)?;
        self.order.remove(turn);
        self.turn += 1;
        *turn = self.turn;
        self.order.insert(self.turn, *key);
        Some(value)
    }

    /// Gives back what had to go for it: an older value of the key, and those used longest ago.
    pub fn insert(&mut self, key: [u8; 32], value: V, weight: u64) -> Vec<V> {
        let mut gone: Vec<V> = self.remove(&key).into_iter().collect();
        self.turn += 1;
        self.weight += weight;
        self.values.insert(key, (value, weight, self.turn));
        self.order.insert(self.turn, key);
        while self.weight > self.limit && self.values.len() > 1 {
            let (_, &oldest) = self.order.first_key_value().expect("every value has its turn");
            gone.extend(self.remove(&oldest));
        }
        gone
    }

    pub fn remove(&mut self, key: &[u8; 32]) -> Option<V> {
        let (value, weight, turn) = self.values.remove(key)?;
        self.order.remove(&turn);
        self.weight -= weight;
        Some(value)
    }
}
