//! Which instruction set the kernels use: found once per process, lowered by an environment
//! variable so that tests reach every twin on one machine.

use std::sync::OnceLock;

/// Environment variable that lowers the level: `scalar`, `avx2`, `avx512` or `neon`. A level that the
/// CPU lacks, or an unknown word, is ignored: the best supported one is used.
pub const LEVEL_VARIABLE: &str = "OUTRIGGER_KERNELS";

/// An instruction set for which kernels exist, those of one architecture in rising order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Portable Rust.
    Scalar,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ, VL and VNNI.
    Avx512,
    /// What every AArch64 CPU has.
    Neon,
}

impl Level {
    /// The best level that this CPU supports.
    pub fn best() -> Level {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            match (avx2, avx512) {
                (true, true) => Level::Avx512,
                (true, false) => Level::Avx2,
                _ => Level::Scalar,
            }
        }
        #[cfg(target_arch = "aarch64")]
        {
            Level::Neon
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        {
            Level::Scalar
        }
    }

    /// Every level that this CPU supports, lowest first.
    pub fn supported() -> impl Iterator<Item = Level> {
        const KNOWN: &[Level] = if cfg!(target_arch = "aarch64") {
            &[Level::Scalar, Level::Neon]
        } else {
            &[Level::Scalar, Level::Avx2, Level::Avx512]
        };
        KNOWN.iter().copied().filter(|&level| level <= Level::best())
    }

    /// The word that names the level in [`LEVEL_VARIABLE`] and in logs.
    pub fn name(self) -> &'static str {
        match self {
            Level::Scalar => "scalar",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Neon => "neon",
        }
    }
}

/// The level in use: the best one, unless [`LEVEL_VARIABLE`] names a lower one. Never higher than
/// what the CPU supports, which is what the twins rely on.
#[inline]
pub fn level() -> Level {
    static CHOSEN: OnceLock<Level> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let wanted = std::env::var(LEVEL_VARIABLE).unwrap_or_default();
        Level::supported().find(|level| level.name() == wanted).unwrap_or_else(Level::best)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_in_use_is_the_one_asked_for() {
        let wanted = std::env::var(LEVEL_VARIABLE).unwrap_or_default();
        let supported: Vec<&str> = Level::supported().map(Level::name).collect();
        let used = if supported.contains(&wanted.as_str()) { &wanted } else { Level::best().name() };
        assert_eq!(level().name(), used);
        println!("levels: {}", supported.join(" "));
    }
}
