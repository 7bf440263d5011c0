//! Random vectors with clusters, from a seed that is printed when a test fails.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// A source of vectors around a few centres.
#[derive(Debug)]
pub struct Vectors {
    random: Xoshiro256PlusPlus,
    centres: Vec<Vec<f32>>,
}

impl Vectors {
    /// Vectors of `dims` values around 20 centres.
    pub fn new(seed: u64, dims: usize) -> Self {
        eprintln!("vectors from seed {seed}");
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let centres = (0..20).map(|_| (0..dims).map(|_| random.gen_range(-1.0..1.0)).collect()).collect();
        Self { random, centres }
    }

    /// The next vector, not normalised.
    pub fn draw(&mut self) -> Vec<f32> {
        let centre = self.random.gen_range(0..self.centres.len());
        let noise: Vec<f32> =
            (0..self.centres[centre].len()).map(|_| self.random.gen_range(-0.5..0.5)).collect();
        self.centres[centre].iter().zip(noise).map(|(c, n)| c + n).collect()
    }

    /// The next vector, of unit length.
    pub fn draw_unit(&mut self) -> Vec<f32> {
        let vector = self.draw();
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        vector.iter().map(|x| x / length).collect()
    }
}
