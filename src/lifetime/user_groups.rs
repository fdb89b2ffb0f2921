use crate::observe::Counter;
use dashmap::DashMap;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::time::Instant;

/// Groups that users are in, whether they have a connection or not: whoever connects as one of them joins.
#[derive(Debug)]
pub(super) struct UserGroups {
    users: DashMap<Arc<str>, Known>,
    /// The users by when something was last remembered of them. Locked within a user's entry, never around one.
    order: Mutex<Order>,
    most: usize,
    /// How many were remembered since what has lapsed was last thrown away.
    fresh: AtomicUsize,
    /// Users who were forgotten for want of room.
    forgotten: Arc<Counter>,
}

#[derive(Debug, Default)]
struct Order {
    users: BTreeMap<u64, Arc<str>>,
    last: u64,
}

#[derive(Debug, Default)]
struct Known {
    groups: Vec<Remembered>,
    /// Its place in the order; 0 as long as it has none.
    place: u64,
}

#[derive(Debug)]
struct Remembered {
    group: Arc<str>,
    until: Instant,
    /// Remembered for good, as far as there is room.
    lasting: bool,
}

impl UserGroups {
    /// Remembers so many users; beyond, the one goes of whom nothing has been remembered for the longest time, which is counted.
    pub(super) fn new(most: usize, forgotten: Arc<Counter>) -> Self {
        Self { users: DashMap::new(), order: Mutex::default(), most, fresh: AtomicUsize::new(0), forgotten }
    }

    /// Remembers a membership for so long, in place of what was remembered before. `None`: for a year, and no longer than until so many
    /// newer ones of the user have come that there is no room.
    pub(super) fn remember(&self, user: &str, group: &str, time: Option<Duration>) {
        let lasting = time.is_none();
        let now = Instant::now();
        if time.is_some_and(|time| time.is_zero()) {
            return self.forget(user, Some(group), || {});
        }
        let until = now + time.unwrap_or(YEAR).min(YEAR);
        let oldest = {
            let mut entry = self.users.entry(user.into()).or_default();
            let user = entry.key().clone();
            let Known { groups, place } = &mut *entry;
            groups.retain(|known| known.until > now && &*known.group != group);
            groups.push(Remembered { group: group.into(), until, lasting });
            let kind = |known: &Remembered| known.lasting == lasting;
            let most = if lasting { LASTING } else { LAPSING };
            if groups.iter().filter(|known| kind(known)).count() > most
                && let Some(oldest) = groups.iter().position(kind)
            {
                groups.remove(oldest);
            }
            self.order.lock().renew(place, user, self.most)
        };
        if let Some((place, user)) = oldest
            // unless something has been remembered meanwhile
            && self.users.remove_if(&user, |_, known| known.place == place).is_some()
        {
            self.forgotten.add(1);
        }
        if self.fresh.fetch_add(1, Relaxed) >= self.users.len().max(SWEEP) {
            self.fresh.store(0, Relaxed);
            self.users.retain(|_, known| {
                let is_left = known.groups.iter().any(|known| known.until > now);
                if !is_left {
                    self.order.lock().users.remove(&known.place);
                }
                is_left
            });
        }
    }

    /// Forgets one or all groups of a user, and does the rest before anybody is told of the user's groups again.
    pub(super) fn forget(&self, user: &str, group: Option<&str>, rest: impl FnOnce()) {
        let Some(mut known) = self.users.get_mut(user) else { return rest() };
        known.groups.retain(|known| group.is_some_and(|group| &*known.group != group));
        rest();
        drop(known);
        if let Some((_, known)) = self.users.remove_if(user, |_, known| known.groups.is_empty()) {
            self.order.lock().users.remove(&known.place);
        }
    }

    /// Calls `f` with each group that is remembered for a user. What is forgotten meanwhile waits.
    pub(super) fn each(&self, user: &str, mut f: impl FnMut(&str)) {
        let now = Instant::now();
        if let Some(known) = self.users.get(user) {
            known.groups.iter().filter(|known| known.until > now).for_each(|known| f(&known.group));
        }
    }

    /// Nobody is remembered for any group.
    #[cfg(feature = "service")]
    pub(super) fn is_empty(&self) -> bool {
        let now = Instant::now();
        self.users.iter().all(|user| user.groups.iter().all(|known| known.until <= now))
    }

    pub(super) fn contains(&self, user: &str, group: &str) -> bool {
        let now = Instant::now();
        let known = self.users.get(user);
        known.is_some_and(|known| known.groups.iter().any(|known| &*known.group == group && known.until > now))
    }
}

impl Order {
    /// Puts a user at the end; gives the first, which has to go, if they are too many.
    fn renew(&mut self, place: &mut u64, user: Arc<str>, most: usize) -> Option<(u64, Arc<str>)> {
        self.users.remove(place);
        self.last += 1;
        *place = self.last;
        self.users.insert(self.last, user);
        if self.users.len() > most { self.users.pop_first() } else { None }
    }
}

/// Users who are remembered of one hub, as many as there may be connections by default.
pub(crate) const USERS: usize = 65_536;
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Groups without a time that are remembered for one user, as the service does it.
pub(crate) const LASTING: usize = 100;
/// Groups with a time that are remembered for one user, so that nobody fills the memory with a loop.
pub(crate) const LAPSING: usize = 1000;
/// Below so many users nothing is searched for what has lapsed.
const SWEEP: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(known: &UserGroups, user: &str) -> Vec<String> {
        let mut groups = Vec::new();
        known.each(user, |group| groups.push(group.to_owned()));
        groups
    }

    #[tokio::test(start_paused = true)]
    async fn a_time_lapses_and_is_replaced() {
        let known = UserGroups::new(USERS, Arc::default());
        let second = Duration::from_secs(1);
        known.remember("ann", "short", Some(second));
        known.remember("ann", "again", Some(second));
        known.remember("ann", "again", Some(5 * second));
        known.remember("ann", "now", Some(Duration::ZERO));
        assert_eq!(of(&known, "ann"), ["short", "again"]);
        tokio::time::advance(2 * second).await;
        assert_eq!(of(&known, "ann"), ["again"]);
        assert!(known.contains("ann", "again") && !known.contains("ann", "short") && !known.contains("bob", "again"));
        known.forget("ann", None, || {});
        assert_eq!((of(&known, "ann").len(), known.users.len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_of_many_lasting_ones_is_forgotten() {
        let known = UserGroups::new(USERS, Arc::default());
        known.remember("ann", "timed", Some(Duration::from_secs(60)));
        for n in 0..=LASTING {
            known.remember("ann", &format!("g{n}"), None);
        }
        let groups = of(&known, "ann");
        assert_eq!(groups.len(), LASTING + 1);
        assert!(!groups.contains(&"g0".into()) && groups.contains(&"g1".into()) && groups.contains(&"timed".into()));
        tokio::time::advance(YEAR).await;
        assert!(of(&known, "ann").is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn users_whose_groups_have_lapsed_are_thrown_away() {
        let known = UserGroups::new(USERS, Arc::default());
        for n in 0..SWEEP {
            known.remember(&format!("u{n}"), "room", Some(Duration::from_secs(1)));
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        for n in 0..=SWEEP {
            known.remember("ann", &format!("g{}", n % 2), None);
        }
        assert_eq!(known.users.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_users_the_one_remembered_longest_ago_is_forgotten_and_counted() {
        let forgotten = Arc::<Counter>::default();
        let known = UserGroups::new(2, forgotten.clone());
        for user in ["ann", "bob", "ann", "eve"] {
            known.remember(user, "room", None);
        }
        assert_eq!((of(&known, "ann"), of(&known, "bob")), (vec!["room".to_owned()], vec![]));
        known.forget("ann", Some("room"), || {});
        known.remember("dan", "room", Some(Duration::from_secs(1)));
        assert_eq!(forgotten.value(), 1, "who was forgotten on request makes room");
        known.remember("ann", "room", None);
        assert!(of(&known, "eve").is_empty() && known.contains("dan", "room") && known.contains("ann", "room"));
        assert_eq!((forgotten.value(), known.users.len(), known.order.lock().users.len()), (2, 2, 2));
    }
}
