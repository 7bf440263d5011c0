//! Which shard a document belongs to, as Elasticsearch computes it.

/// The numbers of an index that decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routing {
    /// `routing_num_shards` of the index's metadata.
    pub routing_num_shards: u32,
    /// `index.number_of_shards`.
    pub shards: u32,
    /// `index.routing_partition_size`, 1 by default.
    pub partition_size: u32,
}

impl Routing {
    /// `None` for numbers that no index has.
    pub fn new(routing_num_shards: u32, shards: u32, partition_size: u32) -> Option<Self> {
        let sound = shards > 0 && partition_size > 0 && routing_num_shards >= shards;
        (sound && routing_num_shards.is_multiple_of(shards)).then_some(Self {
            routing_num_shards,
            shards,
            partition_size,
        })
    }

    /// The shard of a document.
    pub fn shard(&self, id: &str, routing: Option<&str>) -> u32 {
        let hash = hash(routing.unwrap_or(id));
        self.of_hash(match self.partition_size {
            1 => hash,
            size => hash.wrapping_add(hash_of_partition(id, size)),
        })
    }

    /// The shards that may hold documents of a routing.
    pub fn shards(&self, routing: &str) -> impl Iterator<Item = u32> {
        let hash = hash(routing);
        (0..self.partition_size).map(move |part| self.of_hash(hash.wrapping_add(part as i32)))
    }

    fn of_hash(&self, hash: i32) -> u32 {
        let factor = self.routing_num_shards / self.shards;
        hash.rem_euclid(self.routing_num_shards as i32) as u32 / factor
    }
}

/// Which of the shards that its routing allows a document of a partitioned index takes.
fn hash_of_partition(id: &str, size: u32) -> i32 {
    hash(id).rem_euclid(size as i32)
}

/// MurmurHash3 (x86, 32 bit, seed 0) of the UTF-16 code units of a text, low byte first.
pub(crate) fn hash(text: &str) -> i32 {
    let mut units = text.encode_utf16();
    let (mut state, mut count) = (0u32, 0u32);
    while let Some(low) = units.next() {
        let Some(high) = units.next() else {
            state ^= scrambled(u32::from(low));
            count += 1;
            break;
        };
        state ^= scrambled(u32::from(low) | u32::from(high) << 16);
        state = state.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
        count += 2;
    }
    state ^= count * 2;
    state = (state ^ state >> 16).wrapping_mul(0x85eb_ca6b);
    state = (state ^ state >> 13).wrapping_mul(0xc2b2_ae35);
    (state ^ state >> 16) as i32
}

fn scrambled(block: u32) -> u32 {
    block.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593)
}

#[cfg(test)]
mod tests;
