//! Patterns with wildcards as small programs, all of whose states are followed at once.
//!
//! The time for a path is its length times that of the pattern at worst, whatever the wildcards.

/// The steps of a pattern, and what a path must have to be worth running them.
#[derive(Clone, Debug)]
pub(super) struct Program {
    /// Characters at the front that are themselves.
    head: String,
    /// The steps after those.
    steps: Vec<Step>,
    /// Characters at the end that are themselves; part of the steps.
    tail: String,
    /// No shorter path matches, in bytes.
    shortest: usize,
}

/// One step. Those that say "or none" may be passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// This character.
    Char(char),
    /// `?`: a character of a name.
    NameChar,
    /// `[...]`.
    Class(Class),
    /// `*`: characters of a name, or none.
    Name,
    /// `**` at the end: any characters but line feeds, or none.
    Rest,
    /// `**/`: whole directories, or none; the next step reads their characters.
    Dirs,
    /// The characters of directories, up to a `/`.
    InDirs,
    /// `^`: the start of the path.
    Start,
}

/// The members of a `[...]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Class {
    negated: bool,
    ranges: Vec<(char, char)>,
}

impl Class {
    fn holds(&self, c: char) -> bool {
        let found = self
            .ranges
            .iter()
            .any(|(low, high)| (*low..=*high).contains(&c));
        found != self.negated
    }
}

impl Program {
    /// Compiles a cleaned pattern whose escapes and classes are complete.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let mut steps = compile(text)?;
        let shortest = steps.iter().map(Step::shortest).sum();
        let literal = |step: &Step| match step {
            Step::Char(c) => Some(*c),
            _ => None,
        };
        let head: String = steps.iter().map_while(literal).collect();
        let mut tail: Vec<char> = steps.iter().rev().map_while(literal).collect();
        tail.reverse();
        steps.drain(..head.chars().count());
        Ok(Self {
            head,
            steps,
            tail: tail.into_iter().collect(),
            shortest,
        })
    }

    /// Whether the path itself matches.
    pub(super) fn matches(&self, path: &str) -> bool {
        if path.len() < self.shortest || !path.ends_with(self.tail.as_str()) {
            return false;
        }
        let Some(rest) = path.strip_prefix(self.head.as_str()) else {
            return false;
        };
        let mut states = States::new(self);
        rest.chars().all(|c| states.step(c)) && states.at_end()
    }

    /// Whether some path below `dir` may match.
    pub(super) fn can_match_below(&self, dir: &str) -> bool {
        let mut read = dir.chars().chain(std::iter::once('/'));
        for want in self.head.chars() {
            match read.next() {
                Some(c) if c == want => {}
                Some(_) => return false,
                None => return true,
            }
        }
        let mut states = States::new(self);
        read.all(|c| states.step(c))
    }
}

/// The steps that the text read so far leads to.
struct States<'a> {
    program: &'a Program,
    /// One bit for each step and one for the end.
    now: Bits,
    next: Bits,
}

impl<'a> States<'a> {
    fn new(program: &'a Program) -> Self {
        let count = program.steps.len() + 1;
        let mut states = Self {
            program,
            now: Bits::new(count),
            next: Bits::new(count),
        };
        add(&program.steps, 0, program.head.is_empty(), &mut states.now);
        states
    }

    /// Whether what was read is a match.
    fn at_end(&self) -> bool {
        self.now.has(self.program.steps.len())
    }

    /// Reads a character; false when nothing can match any more.
    fn step(&mut self, c: char) -> bool {
        let steps = &self.program.steps;
        self.next.clear();
        let next = &mut self.next;
        let mut alive = false;
        self.now.each(|at| {
            let Some(step) = steps.get(at) else { return };
            let (stay, on) = match step {
                Step::Char(want) => (false, c == *want),
                Step::NameChar => (false, c != '/'),
                Step::Class(class) => (false, class.holds(c)),
                Step::Name => (c != '/', false),
                Step::Rest => (c != '\n', false),
                Step::InDirs => (c != '\n', c == '/'),
                Step::Dirs | Step::Start => (false, false),
            };
            alive |= stay || on;
            if stay {
                add(steps, at, false, next);
            }
            if on {
                add(steps, at + 1, false, next);
            }
        });
        std::mem::swap(&mut self.now, &mut self.next);
        alive
    }
}

/// Adds a step and those that can be reached from it without reading.
fn add(steps: &[Step], mut at: usize, at_start: bool, to: &mut Bits) {
    while to.set(at) {
        match steps.get(at) {
            Some(Step::Name | Step::Rest) => at += 1,
            Some(Step::Dirs) => {
                to.set(at + 1);
                at += 2;
            }
            Some(Step::Start) if at_start => at += 1,
            _ => return,
        }
    }
}

/// A set of small numbers.
enum Bits {
    Few(u64),
    Many(Vec<u64>),
}

impl Bits {
    fn new(count: usize) -> Self {
        if count <= 64 {
            Self::Few(0)
        } else {
            Self::Many(vec![0; count.div_ceil(64)])
        }
    }

    fn clear(&mut self) {
        match self {
            Self::Few(bits) => *bits = 0,
            Self::Many(words) => words.fill(0),
        }
    }

    /// Adds a number; false when it was there.
    fn set(&mut self, n: usize) -> bool {
        let word = match self {
            Self::Few(bits) => Some(bits),
            Self::Many(words) => words.get_mut(n / 64),
        };
        let bit = 1 << (n % 64);
        word.is_some_and(|word| {
            let new = *word & bit == 0;
            *word |= bit;
            new
        })
    }

    fn has(&self, n: usize) -> bool {
        let word = match self {
            Self::Few(bits) => Some(bits),
            Self::Many(words) => words.get(n / 64),
        };
        word.is_some_and(|word| word & (1 << (n % 64)) != 0)
    }

    fn each(&self, mut see: impl FnMut(usize)) {
        let words = match self {
            Self::Few(bits) => std::slice::from_ref(bits),
            Self::Many(words) => words.as_slice(),
        };
        for (index, word) in words.iter().enumerate() {
            let mut left = *word;
            while left != 0 {
                see(index * 64 + left.trailing_zeros() as usize);
                left &= left - 1;
            }
        }
    }
}

impl Step {
    /// The fewest bytes that it reads.
    fn shortest(&self) -> usize {
        match self {
            Self::Char(c) => c.len_utf8(),
            Self::NameChar | Self::Class(_) => 1,
            Self::Name | Self::Rest | Self::Dirs | Self::InDirs | Self::Start => 0,
        }
    }
}

/// Reads a pattern.
fn compile(text: &str) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let step = match c {
            '*' if chars.next_if_eq(&'*').is_some() => {
                chars.next_if_eq(&'/');
                if chars.peek().is_none() {
                    Step::Rest
                } else if steps.last() == Some(&Step::InDirs) {
                    // Directories after directories are directories.
                    continue;
                } else {
                    steps.push(Step::Dirs);
                    Step::InDirs
                }
            }
            '*' => Step::Name,
            '?' => Step::NameChar,
            '^' => Step::Start,
            '[' => Step::Class(class(&mut chars)?),
            '\\' => match escaped(chars.next().unwrap_or('\\'))? {
                Escaped::Char(c) => Step::Char(c),
                Escaped::Class(ranges) => Step::Class(Class {
                    negated: false,
                    ranges,
                }),
            },
            c => Step::Char(c),
        };
        steps.push(step);
    }
    Ok(steps)
}

/// Reads the members of a class up to its `]`.
fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Class, String> {
    let mut class = Class {
        negated: chars.next_if_eq(&'^').is_some(),
        ranges: Vec::new(),
    };
    while let Some(c) = chars.next().filter(|c| *c != ']') {
        let low = member(c, chars)?;
        let high = match chars.next_if_eq(&'-').and_then(|_| chars.next()) {
            Some(c) => Some(member(c, chars)?),
            None => None,
        };
        match (low, high) {
            (low, None) => class.ranges.extend(low.ranges()),
            (Escaped::Char(low), Some(Escaped::Char(high))) => {
                if low > high {
                    return Err("a character range is reversed".to_owned());
                }
                class.ranges.push((low, high));
            }
            (Escaped::Char(_), Some(Escaped::Class(_))) => {
                return Err("a character range ends in a class".to_owned());
            }
            // After `\d` and its like a `-` is itself.
            (low, Some(high)) => {
                class.ranges.extend(low.ranges());
                class.ranges.push(('-', '-'));
                class.ranges.extend(high.ranges());
            }
        }
    }
    Ok(class)
}

fn member(
    c: char,
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
) -> Result<Escaped, String> {
    match c {
        '\\' => escaped(chars.next().unwrap_or('\\')),
        c => Ok(Escaped::Char(c)),
    }
}

/// What an escape stands for.
enum Escaped {
    Char(char),
    Class(Vec<(char, char)>),
}

impl Escaped {
    fn ranges(self) -> Vec<(char, char)> {
        match self {
            Self::Char(c) => vec![(c, c)],
            Self::Class(ranges) => ranges,
        }
    }
}

/// An escape makes punctuation literal. Before a letter it has the meaning that it has in a
/// regular expression, which is what other engines make of it.
fn escaped(c: char) -> Result<Escaped, String> {
    const DIGITS: &[(char, char)] = &[('0', '9')];
    const SPACES: &[(char, char)] = &[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')];
    const WORDS: &[(char, char)] = &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')];
    let of = |ranges: &[(char, char)]| Ok(Escaped::Class(ranges.to_vec()));
    match c {
        'a' => Ok(Escaped::Char('\x07')),
        'f' => Ok(Escaped::Char('\x0c')),
        'n' => Ok(Escaped::Char('\n')),
        'r' => Ok(Escaped::Char('\r')),
        't' => Ok(Escaped::Char('\t')),
        'v' => Ok(Escaped::Char('\x0b')),
        'd' => of(DIGITS),
        's' => of(SPACES),
        'w' => of(WORDS),
        'D' => of(&others(DIGITS)),
        'S' => of(&others(SPACES)),
        'W' => of(&others(WORDS)),
        _ if c.is_alphanumeric() || !c.is_ascii() => {
            Err(format!("the escape \\{c} has no meaning"))
        }
        _ => Ok(Escaped::Char(c)),
    }
}

/// The characters that are in none of the ranges, which are sorted ASCII.
fn others(ranges: &[(char, char)]) -> Vec<(char, char)> {
    let mut found = Vec::new();
    let mut next = 0;
    for (low, high) in ranges {
        let (low, high) = (*low as u8, *high as u8);
        if next < low {
            found.push((char::from(next), char::from(low - 1)));
        }
        next = high + 1;
    }
    found.push((char::from(next), char::MAX));
    found
}
