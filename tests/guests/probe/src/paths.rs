//! Random paths that may lead out of a mount; `p3` tries them, too.

/// What only files beside the mount contain.
pub const SECRET: &[u8] = b"SECRET-OF-THE-HOST";
/// What only a directory beside the mount has.
pub const CANARY: &str = "canary";
/// Bytes in a file beside the mount, and in no other.
pub const SECRET_SIZE: u64 = 7919;
/// Names that exist at times, in the mount or where its links lead.
const NAMES: [&str; 16] = [
    "swap0",
    "swap1",
    "swap2",
    "swap3",
    "dir",
    "dir/swap4",
    "dir/deep/swap5",
    "file",
    "new",
    "link",
    "outside",
    "secret",
    "canary",
    "moved",
    "dir/deep",
    "hard",
];

/// xorshift64*.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    /// Perhaps a way out of the mount, which is in the host's directory `base`.
    pub fn path(&mut self, base: &str) -> String {
        let mut path = String::new();
        if self.one_in(8) {
            path.push_str(self.of(&[
                "/",
                "//",
                "/proc/self/root/",
                "/proc/self/cwd/",
                "/proc/self/fd/3/",
                "/proc/thread-self/root",
                "../../../../../../../../../../../../",
                &format!("{base}/outside/"),
                &format!("{base}/mount/../"),
                "./",
                "\u{0}/",
            ]));
        }
        // Short ones more often than long ones: they lead somewhere.
        for _ in 0..=self.below(5).min(self.below(5)) {
            let part = match self.below(40) {
                0..=4 => "..".to_owned(),
                5 => ".".to_owned(),
                6 => String::new(),
                7 => "x".repeat(self.below(300)),
                8 => ["\u{0}", "\n", "..\u{0}", "\u{2024}.", ".. ", "...", "\\..", "%2e%2e", "\u{feff}"]
                    [self.below(9)]
                .to_owned(),
                9 => base[1..].to_owned(),
                10 => "../outside/secret".to_owned(),
                _ => self.of(&NAMES).to_owned(),
            };
            path.push_str(&part);
            path.push_str(self.of(&["/", "/", "/", "/", "//", "/./"]));
        }
        if !self.one_in(4) {
            path.truncate(path.trim_end_matches('/').len());
        }
        if self.one_in(2000) {
            path.push_str(&"/a".repeat(3000));
        }
        path
    }
}
