//! Random numbers that a seed repeats.

/// A small generator (splitmix64); the seed is printed, so that a failure can be repeated.
#[derive(Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The seed is `KILN_TEST_SEED`, or the clock's.
    #[must_use]
    pub fn new() -> Self {
        let given = std::env::var("KILN_TEST_SEED")
            .ok()
            .and_then(|s| s.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
            u64::try_from(now.unwrap().as_nanos() & u128::from(u64::MAX)).unwrap()
        });
        eprintln!("KILN_TEST_SEED={seed}");
        Self::of(seed)
    }

    /// From a number that another one gave.
    #[must_use]
    pub const fn of(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which must not be 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.number() % end
    }

    /// One of them.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        let index = usize::try_from(self.below(of.len() as u64)).unwrap();
        of[index]
    }
}

impl Default for Random {
    fn default() -> Self {
        Self::new()
    }
}
