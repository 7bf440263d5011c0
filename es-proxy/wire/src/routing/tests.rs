//! Against what a 9.2.0 node answered to `_search_shards?routing=`, and where it put documents of a
//! partitioned index.

use super::*;

/// `routing_num_shards`, `number_of_shards`.
const INDICES: [(u32, u32); 5] = [(1024, 2), (768, 3), (640, 5), (63, 7), (1024, 16)];

/// The shard in each of [`INDICES`].
const SHARDS: [(&str, [u32; 5]); 15] = [
    ("a", [0, 0, 1, 6, 4]),
    ("b", [1, 2, 0, 5, 10]),
    ("1", [0, 2, 4, 2, 0]),
    ("42", [0, 0, 0, 4, 5]),
    ("doc-1", [0, 0, 2, 6, 7]),
    ("doc-2", [1, 2, 0, 4, 10]),
    ("1000000", [0, 1, 1, 2, 3]),
    ("ünï", [0, 2, 3, 4, 3]),
    ("日本語", [0, 2, 2, 6, 0]),
    ("emoji😀x", [0, 1, 1, 5, 5]),
    ("😀", [1, 0, 2, 5, 8]),
    ("AVqbXCZ8rPCYtjEnvLcS", [0, 1, 3, 1, 2]),
    ("a long id with blanks and / slashes %2F", [0, 2, 3, 6, 2]),
    ("ab", [0, 2, 3, 0, 3]),
    ("abc", [1, 0, 4, 1, 11]),
];

/// Document, routing and shard of an index of 8 shards with a partition size of 5.
const PARTITIONED: [(&str, &str, u32); 9] = [
    ("a", "k1", 6),
    ("a", "日本", 3),
    ("b", "k1", 5),
    ("b", "日本", 2),
    ("1", "k2", 5),
    ("1", "日本", 3),
    ("日本語", "k1", 4),
    ("日本語", "日本", 2),
    ("😀", "k2", 5),
];

#[test]
fn shards_are_those_of_elasticsearch() {
    for (at, (routing_num_shards, shards)) in INDICES.into_iter().enumerate() {
        let routing = Routing::new(routing_num_shards, shards, 1).unwrap();
        for (id, expected) in SHARDS {
            assert_eq!(routing.shard(id, None), expected[at], "{id} of {shards}");
            assert_eq!(routing.shard("other", Some(id)), expected[at], "{id} of {shards}");
        }
        // 512 bytes is the longest that Elasticsearch takes.
        assert_eq!(routing.shard(&"x".repeat(512), None), [1, 0, 0, 1, 11][at]);
        assert_eq!(Routing::new(routing_num_shards, 1, 1).unwrap().shard("a", None), 0);
    }
}

#[test]
fn partitioned_indices_spread_a_routing() {
    let routing = Routing::new(16, 8, 5).unwrap();
    for (id, key, shard) in PARTITIONED {
        assert_eq!(routing.shard(id, Some(key)), shard, "{id} under {key}");
    }
}

#[test]
fn impossible_numbers_are_refused() {
    for (routing_num_shards, shards, partition_size) in [(0, 0, 1), (4, 8, 1), (5, 2, 1), (8, 8, 0)] {
        assert_eq!(Routing::new(routing_num_shards, shards, partition_size), None);
    }
}

#[test]
fn a_routing_leads_to_every_shard_where_its_documents_may_be() {
    for (at, (routing_num_shards, shards)) in INDICES.into_iter().enumerate() {
        let whole = Routing::new(routing_num_shards, shards, 1).unwrap();
        for (routing, wanted) in SHARDS {
            assert_eq!(whole.shards(routing).collect::<Vec<_>>(), [wanted[at]], "{routing}");
        }
    }
    let parted = Routing::new(1024, 8, 5).unwrap();
    for (id, routing, _) in PARTITIONED {
        let shard = parted.shard(id, Some(routing));
        assert!(parted.shards(routing).any(|possible| possible == shard), "{id} {routing}");
    }
}
