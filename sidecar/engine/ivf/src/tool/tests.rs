//! The tools from end to end, and the file formats they read.

use std::fs;
use std::path::Path;

use super::*;

fn write_npy(path: &Path, kind: &str, rows: usize, dims: usize, data: &[u8]) {
    let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({rows}, {dims}), }}\n");
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    fs::write(path, bytes).unwrap();
}

fn rows(count: usize, dims: usize, seed: u64) -> Vec<u8> {
    use rand::{Rng, SeedableRng};
    let mut rng = rand_xoshiro::Xoshiro256Plus::seed_from_u64(seed);
    (0..count * dims).map(|at| ((at / dims % 50) * 4) as u8 + rng.gen_range(0..40)).collect()
}

#[test]
fn formats_are_read_and_broken_ones_refused() {
    let dir = tempfile::tempdir().unwrap();
    let npy = dir.path().join("a.npy");
    let cases: [(&str, &[u8], [f32; 4]); 4] = [
        ("|u1", &[1, 2, 255, 4], [1.0, 2.0, 255.0, 4.0]),
        ("|i1", &[1, 2, 255, 4], [1.0, 2.0, -1.0, 4.0]),
        ("<f2", &[0x00, 0x3c, 0x00, 0xc0, 0x00, 0x00, 0x01, 0x00], [1.0, -2.0, 0.0, 5.960_464_5e-8]),
        ("<f4", bytemuck::cast_slice(&[1.5f32, -2.5, 0.0, 3e9]), [1.5, -2.5, 0.0, 3e9]),
    ];
    for (kind, data, want) in cases {
        write_npy(&npy, kind, 2, 2, data);
        let read = read_vectors(&npy).unwrap();
        assert_eq!((read.values(), read.dims()), (&want[..], 2), "{kind}");
    }
    let fvecs = dir.path().join("a.fvecs");
    fs::write(&fvecs, [&2u32.to_le_bytes()[..], bytemuck::cast_slice(&[1f32, 2.0])].concat()).unwrap();
    assert_eq!(read_vectors(&fvecs).unwrap().values(), [1.0, 2.0]);
    let bvecs = dir.path().join("a.bvecs");
    fs::write(&bvecs, [&[2, 0, 0, 0, 7, 8][..], &[2, 0, 0, 0, 9, 10]].concat()).unwrap();
    assert_eq!(read_vectors(&bvecs).unwrap().values(), [7.0, 8.0, 9.0, 10.0]);
    for (kind, data) in [("|u1", &[1u8, 2, 3][..]), ("<i8", &[0; 32]), ("<f2", &[0, 0x7c, 0, 0, 0, 0, 0, 0])]
    {
        write_npy(&npy, kind, 2, 2, data);
        assert!(matches!(read_vectors(&npy), Err(ToolError::File { .. })), "{kind}");
    }
    fs::write(&bvecs, [2, 0, 0, 0, 7]).unwrap();
    fs::write(&npy, b"\x93NUMPY\x01\x00\xff\xff").unwrap();
    assert!(read_vectors(&bvecs).is_err() && read_vectors(&npy).is_err());
    assert!(read_vectors(&dir.path().join("none.npy")).is_err());
}

#[test]
fn build_search_stats_and_verify() {
    let dir = tempfile::tempdir().unwrap();
    let (base, queries, data) = (dir.path().join("b.npy"), dir.path().join("q.npy"), dir.path().join("data"));
    write_npy(&base, "|u1", 6_000, 16, &rows(6_000, 16, 1));
    write_npy(&queries, "|u1", 60, 16, &rows(60, 16, 2));
    let built =
        build(&base, &data, Element::Float, Metric::L2, IvfOptions::default(), 1, Spill::Auto).unwrap();
    assert_eq!((built.vectors, built.dims), (6_000, 16));
    assert!(built.nlist > 10 && built.disk_bytes > 6_000 * 16 * 4);

    let options = SearchOptions { truth_from: Some(base.clone()), ..SearchOptions::default() };
    let report = search(&data, &queries, &options).unwrap();
    assert!(report.recall.unwrap() >= 0.93, "{report:?}");
    assert!(report.qps > 0.0 && report.p99_us >= report.p50_us && report.queries == 60);
    let all = SearchOptions { nprobe: Some(built.nlist), threads: 3, ..options.clone() };
    assert!(search(&data, &queries, &all).unwrap().recall.unwrap() > 0.999);
    let batched = search(&data, &queries, &SearchOptions { batch: 7, ..options.clone() }).unwrap();
    assert_eq!((batched.recall, batched.queries), (report.recall, 60));
    let filtered = options.clone();
    let strict = SearchOptions { recall: Some(0.99), ..options };
    assert!(search(&data, &queries, &strict).unwrap().nprobe > report.nprobe);

    for choice in [Choice::Random, Choice::Region, Choice::Far] {
        for share in [0.4, 0.1, 0.001] {
            let keep = Some(Keep { share, choice });
            let report = search(&data, &queries, &SearchOptions { keep, ..filtered.clone() }).unwrap();
            assert!((report.kept - share).abs() < 1e-3 && report.short == 0, "{report:?}");
            assert!(report.recall.unwrap() >= 0.93 && report.filter_bytes > 0, "{choice:?} {report:?}");
        }
    }
    let blind = SearchOptions {
        keep: Some(Keep { share: 0.1, choice: Choice::Random }),
        truth_from: None,
        ..filtered.clone()
    };
    assert!(search(&data, &queries, &blind).is_err(), "which rows to keep is found in the file");

    let summaries = stats(&data).unwrap();
    assert_eq!(summaries.len(), 1);
    assert_eq!((summaries[0].slots, summaries[0].metric.as_str()), (6_000, "l2"));
    let curve = &summaries[0].curve;
    assert!(!curve.is_empty());
    assert!(curve.windows(2).all(|pair| {
        pair[0].k < pair[1].k || (pair[0].nprobe <= pair[1].nprobe && pair[0].scanned <= pair[1].scanned)
    }));
    assert!(curve.iter().all(|point| point.scanned > Some(point.k) && point.microseconds > Some(0.0)));

    let verdicts = verify(&data).unwrap();
    assert!(verdicts.len() == 1 && verdicts[0].damage.is_none(), "{verdicts:?}");
    let state = verdicts[0].path.join("state.bin");
    let mut bytes = fs::read(&state).unwrap();
    bytes[100] ^= 4;
    fs::write(&state, bytes).unwrap();
    assert!(verify(&data).unwrap()[0].damage.as_ref().unwrap().contains("state.bin"));
    assert!(verdicts[0].path.exists(), "verify changes nothing");
    assert!(search(&data, &queries, &SearchOptions::default()).is_err(), "nothing sound to search");
    assert!(stats(&dir.path().join("nowhere")).is_err());
}

#[test]
fn bytes_and_bits_are_built_and_searched() {
    let dir = tempfile::tempdir().unwrap();
    let (base, queries, data) = (dir.path().join("b.npy"), dir.path().join("q.npy"), dir.path().join("data"));
    for (element, metric, kind, row_bytes) in [
        (Element::Byte, Metric::L2, "|u1", 16),
        (Element::Byte, Metric::Cosine, "|i1", 20),
        (Element::Byte, Metric::Dot, "|i1", 16),
        (Element::Bit, Metric::L2, "|u1", 16),
    ] {
        write_npy(&base, kind, 6_000, 16, &rows(6_000, 16, 1));
        write_npy(&queries, kind, 60, 16, &rows(60, 16, 2));
        let built = build(&base, &data, element, metric, IvfOptions::default(), 1, Spill::Off).unwrap();
        assert_eq!(built.dims, if element == Element::Bit { 128 } else { 16 });
        assert!(built.nlist > 10, "{built:?}");
        let saved = &stats(&data).unwrap()[0];
        assert_eq!(saved.element, element.name());
        let rows = &walk(&data, "rows-0.bin");
        assert_eq!(
            fs::metadata(rows).unwrap().len().div_ceil(4_100),
            (6_000 * row_bytes as u64).div_ceil(4_096)
        );

        let options = SearchOptions { truth_from: Some(base.clone()), ..SearchOptions::default() };
        let report = search(&data, &queries, &options).unwrap();
        assert!(report.recall.unwrap() >= 0.93, "{element:?} {metric:?} {report:?}");
        let all = SearchOptions { nprobe: Some(built.nlist), recall: Some(0.999), ..options.clone() };
        assert!(search(&data, &queries, &all).unwrap().recall.unwrap() > 0.98, "{element:?} {metric:?}");
        let keep = Some(Keep { share: 0.1, choice: Choice::Region });
        let kept = search(&data, &queries, &SearchOptions { keep, ..options }).unwrap();
        assert!(kept.recall.unwrap() >= 0.93 && kept.short == 0, "{element:?} {metric:?} {kept:?}");
    }
    write_npy(&base, "<f4", 2, 2, bytemuck::cast_slice(&[1.5f32, -2.5, 0.0, 3e9]));
    let refused = build(&base, &data, Element::Byte, Metric::L2, IvfOptions::default(), 1, Spill::Off);
    assert!(matches!(refused, Err(ToolError::Engine(EngineError::NotAByte { at: 0, .. }))), "{refused:?}");
    let refused = build(&base, &data, Element::Bit, Metric::Dot, IvfOptions::default(), 1, Spill::Off);
    assert!(matches!(refused, Err(ToolError::Engine(EngineError::Field(_)))), "{refused:?}");
}

/// The file of this name below a directory.
fn walk(root: &Path, name: &str) -> PathBuf {
    let mut open = vec![root.to_path_buf()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.ends_with(name) {
                return path;
            }
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    panic!("no {name}");
}
