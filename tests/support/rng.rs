//! Randomness that a failing test can print and repeat.

/// A small generator (splitmix64), good enough to choose where bytes are split.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// Starts from a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Starts from `HUBWIRE_SEED`, else from the clock, and prints the seed, which the harness shows if the test fails.
    pub fn announced(test: &str) -> Self {
        let seed = match std::env::var("HUBWIRE_SEED") {
            Ok(text) => text.parse().expect("HUBWIRE_SEED is a number"),
            Err(_) => {
                std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_nanos()
                    as u64
            }
        };
        println!("{test}: HUBWIRE_SEED={seed}");
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }

    /// `length` bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.bits() as u8).collect()
    }

    /// Cuts bytes at random places into at most `pieces` pieces, none of them empty.
    pub fn split<'a>(&mut self, bytes: &'a [u8], pieces: usize) -> Vec<&'a [u8]> {
        let mut cuts: Vec<usize> = (1..pieces).map(|_| self.below(bytes.len().max(1))).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        cuts.dedup();
        cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
    }
}
