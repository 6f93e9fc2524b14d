//! What waits for a worker: a line for each workload, and the lines take turns.
//!
//! Whoever floods makes its own line long, and nobody else's. Within a line the earliest deadline is first. A line that
//! was empty is served next, once, before the others go on with their turns (as in RFC 8290 §4.2): who asks now and
//! then hardly waits. It is behind the others until its next turn came, so that this is no way past them.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use slab::Slab;

/// Whose job it is: jobs of one flow wait in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow(u64);

impl Flow {
    /// Hallmark itself: probes, and what operators and the sweep have done.
    pub const HOUSE: Self = Self(0);

    /// From a keyed hash of who asks. Two that are alike (one in 2⁶³) share a line, and nothing else happens.
    pub(super) fn of_hash(hash: u64) -> Self {
        Self(hash | 1)
    }
}

/// Lines of jobs. Every operation takes the same time however many wait, but where a comment says otherwise.
pub(super) struct Queue<T> {
    /// Jobs stay where they are while places move.
    jobs: Slab<T>,
    lines: Slab<Line>,
    by_flow: HashMap<Flow, usize>,
    /// Lines that were empty and have had no turn since.
    fresh: VecDeque<usize>,
    /// Lines in turn; some may be empty by now.
    turns: VecDeque<usize>,
    /// Of lines that are gone, for new ones: an allocation less.
    spare: Vec<VecDeque<Place>>,
}

struct Line {
    flow: Flow,
    /// The earliest deadline first; of two alike, the one that came first.
    places: VecDeque<Place>,
    /// When it had a turn last, if somebody has waited in it since.
    turn: Option<Instant>,
    /// Moving average of the time between two turns of it.
    pace: Duration,
}

#[derive(Clone, Copy)]
struct Place {
    deadline: Instant,
    job: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            jobs: Slab::new(),
            lines: Slab::new(),
            by_flow: HashMap::new(),
            fresh: VecDeque::new(),
            turns: VecDeque::new(),
            spare: Vec::new(),
        }
    }
}

impl<T> Queue<T> {
    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// How many wait in the line of `flow`.
    pub(super) fn len_of(&self, flow: Flow) -> usize {
        self.line(flow).map_or(0, |line| line.places.len())
    }

    /// How many lines have somebody waiting. Looks at each line.
    pub(super) fn flows(&self) -> usize {
        self.lines.iter().filter(|(_, line)| !line.places.is_empty()).count()
    }

    /// Moves the places behind it where its deadline is not the latest of its line, which is rare.
    pub(super) fn push(&mut self, flow: Flow, deadline: Instant, job: T) {
        let job = self.jobs.insert(job);
        let at = match self.by_flow.get(&flow) {
            Some(at) => *at,
            None => self.new_line(flow),
        };
        let places = &mut self.lines[at].places;
        match places.back() {
            Some(last) if last.deadline > deadline => {
                let behind = places.partition_point(|place| place.deadline <= deadline);
                places.insert(behind, Place { deadline, job });
            }
            _ => places.push_back(Place { deadline, job }),
        }
    }

    /// The next job, of the line whose turn it is.
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.jobs.is_empty() {
            return None;
        }
        // Also while fresh ones are served: else lines of those who do not come back would add up.
        self.forget_empty();
        loop {
            let at = self.fresh.pop_front().or_else(|| self.turns.pop_front())?;
            let line = &mut self.lines[at];
            let Some(place) = line.places.pop_front() else {
                self.forget(at);
                continue;
            };
            line.note_turn();
            self.turns.push_back(at);
            return Some(self.jobs.remove(place.job));
        }
    }

    /// How many are served before one that `flow` would add now. Looks at each line.
    pub(super) fn ahead(&self, flow: Flow, deadline: Instant) -> usize {
        let own = self.line(flow).map_or(0, |line| line.places.partition_point(|place| place.deadline <= deadline));
        let others = self.lines.iter().filter(|(_, line)| line.flow != flow);
        // A line is served once between two turns of ours.
        own + others.map(|(_, line)| line.places.len().min(own + 1)).sum::<usize>()
    }

    /// Whether [`Queue::push_out`] would make room for one of `flow`. Looks at each line.
    pub(super) fn can_push_out(&self, flow: Flow) -> bool {
        self.longest().is_some_and(|longest| self.lines[longest].places.len() > self.len_of(flow) + 1)
    }

    /// Takes the last one out of the longest line, where that is longer than the line of `flow` would become: who has
    /// more than its share waits for room, not who has less. Looks at each line.
    pub(super) fn push_out(&mut self, flow: Flow) -> Option<T> {
        if !self.can_push_out(flow) {
            return None;
        }
        let place = self.longest().and_then(|longest| self.lines[longest].places.pop_back())?;
        Some(self.jobs.remove(place.job))
    }

    /// How long the last of the line of `flow` will wait, by how fast the line moved lately; zero where that is not known.
    /// Others come and go, and only this shows how much they leave.
    pub(super) fn wait_of(&self, flow: Flow, deadline: Instant) -> Duration {
        let Some(line) = self.line(flow) else { return Duration::ZERO };
        let before = line.places.partition_point(|place| place.deadline <= deadline);
        line.pace.saturating_mul(u32::try_from(before).unwrap_or(u32::MAX))
    }

    fn line(&self, flow: Flow) -> Option<&Line> {
        self.by_flow.get(&flow).map(|at| &self.lines[*at])
    }

    /// Of lines whose jobs may be refused: not that of the house.
    fn longest(&self) -> Option<usize> {
        let others = self.lines.iter().filter(|(_, line)| line.flow != Flow::HOUSE);
        others.max_by_key(|(_, line)| line.places.len()).map(|(at, _)| at)
    }

    fn new_line(&mut self, flow: Flow) -> usize {
        let places = self.spare.pop().unwrap_or_default();
        let at = self.lines.insert(Line { flow, places, turn: None, pace: Duration::ZERO });
        self.by_flow.insert(flow, at);
        self.fresh.push_back(at);
        at
    }

    fn forget_empty(&mut self) {
        while let Some(at) = self.turns.front().copied()
            && self.lines[at].places.is_empty()
        {
            self.turns.pop_front();
            self.forget(at);
        }
    }

    fn forget(&mut self, at: usize) {
        let line = self.lines.remove(at);
        self.by_flow.remove(&line.flow);
        if self.spare.len() < SPARE {
            self.spare.push(line.places);
        }
    }
}

impl Line {
    /// The clock is read only where somebody waits.
    fn note_turn(&mut self) {
        if self.places.is_empty() {
            (self.turn, self.pace) = (None, Duration::ZERO);
            return;
        }
        let now = Instant::now();
        if let Some(before) = self.turn.replace(now) {
            let took = now - before;
            self.pace = if self.pace.is_zero() { took } else { (self.pace * 7 + took) / 8 };
        }
    }
}

impl<T> IntoIterator for Queue<T> {
    type Item = T;
    type IntoIter = std::iter::Map<slab::IntoIter<T>, fn((usize, T)) -> T>;

    /// All that wait, in no order.
    fn into_iter(self) -> Self::IntoIter {
        self.jobs.into_iter().map(|(_, job)| job)
    }
}

const SPARE: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(n: u64) -> Flow {
        Flow::of_hash(n << 1)
    }

    /// With jobs `(flow, deadline, name)`, in this order.
    fn queue(jobs: &[(u64, u64, &'static str)]) -> (Queue<&'static str>, Instant) {
        let (mut queue, start) = (Queue::default(), Instant::now());
        for (of, deadline, name) in jobs {
            queue.push(flow(*of), start + Duration::from_secs(*deadline), *name);
        }
        (queue, start)
    }

    fn served(queue: &mut Queue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn lines_take_turns_however_long_they_are() {
        let (mut queue, _) =
            queue(&[(1, 9, "a1"), (1, 9, "a2"), (1, 9, "a3"), (2, 9, "b1"), (2, 9, "b2"), (3, 9, "c1")]);
        assert_eq!(served(&mut queue), ["a1", "b1", "c1", "a2", "b2", "a3"]);
    }

    #[test]
    fn within_a_line_the_earliest_deadline_is_first_and_only_there() {
        let (mut queue, _) = queue(&[(1, 9, "late"), (1, 2, "soon"), (1, 5, "then"), (1, 5, "after"), (2, 7, "other")]);
        assert_eq!(served(&mut queue), ["soon", "other", "then", "after", "late"]);
    }

    #[test]
    fn who_asks_now_and_then_is_next_but_only_once_a_turn() {
        let (mut queue, start) = queue(&[(1, 9, "a1"), (1, 9, "a2"), (1, 9, "a3"), (2, 9, "b1"), (2, 9, "b2")]);
        assert_eq!(queue.pop(), Some("a1"));
        queue.push(flow(3), start, "c1");
        // All fresh ones come before the next turns.
        assert_eq!([queue.pop(), queue.pop()], [Some("b1"), Some("c1")]);
        queue.push(flow(3), start, "c2");
        assert_eq!(served(&mut queue), ["a2", "b2", "c2", "a3"]);
    }

    #[test]
    fn what_is_ahead_is_what_is_served_before() {
        let jobs = [(1, 9, "a"), (1, 9, "a"), (1, 9, "a"), (1, 9, "a"), (2, 9, "b"), (2, 3, "b"), (3, 1, "c")];
        let (queue, start) = queue(&jobs);
        let ahead = |of, deadline| queue.ahead(flow(of), start + Duration::from_secs(deadline));
        assert_eq!(ahead(4, 0), 3, "one of each line");
        assert_eq!(ahead(2, 5), 1 + 2 + 1, "one of its own, two of the first, and the third's only one");
        assert_eq!(ahead(1, 9), 4 + 2 + 1);
        assert_eq!((queue.len(), queue.len_of(flow(1)), queue.flows()), (7, 4, 3));
    }

    #[test]
    fn only_who_has_more_than_its_share_is_pushed_out() {
        let (mut queue, _) = queue(&[(1, 9, "a-late"), (1, 1, "a1"), (1, 2, "a2"), (2, 9, "b1")]);
        assert_eq!(queue.push_out(flow(1)), None);
        assert_eq!(queue.push_out(flow(2)), Some("a-late"));
        assert_eq!(queue.push_out(flow(2)), None, "they have as much");
        assert_eq!(queue.push_out(flow(3)), Some("a2"));
        assert_eq!(queue.len(), 2);
    }

    #[test]
    fn the_house_is_never_pushed_out() {
        let (mut queue, start) = queue(&[(1, 9, "a1")]);
        (0..9).for_each(|_| queue.push(Flow::HOUSE, start, "task"));
        assert_eq!(queue.push_out(flow(2)), None);
    }

    #[test]
    fn nothing_is_kept_of_those_who_do_not_come_back() {
        let mut queue = Queue::default();
        let start = Instant::now();
        for n in 0..10_000 {
            queue.push(flow(n), start, n);
            assert_eq!(queue.pop(), Some(n));
        }
        assert!(queue.lines.len() <= 2 && queue.by_flow.len() <= 2 && queue.turns.len() <= 2, "{}", queue.lines.len());
        assert!(queue.spare.len() <= SPARE);
    }

    #[test]
    fn all_come_out_at_the_end() {
        let (queue, _) = queue(&[(1, 9, "a1"), (1, 1, "a2"), (2, 2, "b1")]);
        let mut left = Vec::from_iter(queue);
        left.sort_unstable();
        assert_eq!(left, ["a1", "a2", "b1"]);
    }
}
