use super::connection::ConnectionState;
use parking_lot::Mutex;
use std::any::{Any, TypeId};
use std::fmt;
use std::sync::Arc;

/// What hub functions keep with a connection: at most one value of each type, as long as the connection lasts.
///
/// Values are shared, since calls may run at the same time: one that changes holds its own lock or atomic.
///
/// ```
/// use hubwire::{HubResult, Items};
/// use std::sync::atomic::{AtomicU32, Ordering};
///
/// #[derive(Default)]
/// struct Attempts(AtomicU32);
///
/// async fn attempt(items: Items) -> HubResult<u32> {
///     let attempts = items.get_or_default::<Attempts>();
///     Ok(attempts.0.fetch_add(1, Ordering::Relaxed) + 1)
/// }
/// # hubwire::Hub::with_state(()).method("Attempt", attempt).build();
/// ```
#[derive(Clone)]
pub struct Items(Source);

#[derive(Clone)]
enum Source {
    Connection(Arc<ConnectionState>),
    Test(Arc<ItemStore>),
}

impl Items {
    pub(super) fn of(state: &Arc<ConnectionState>) -> Self {
        Self(Source::Connection(state.clone()))
    }

    /// Makes an empty set of its own, for a unit test.
    pub fn for_test() -> Self {
        Self(Source::Test(Arc::default()))
    }

    /// Keeps a value, and returns the one of its type that it replaces.
    pub fn insert<T: Send + Sync + 'static>(&self, value: T) -> Option<Arc<T>> {
        self.store().replace(TypeId::of::<T>(), Arc::new(value)).and_then(typed)
    }

    /// Returns the value of a type.
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.store().find(TypeId::of::<T>()).and_then(typed)
    }

    /// Returns the value of a type, and first keeps the default if there is none.
    pub fn get_or_default<T: Default + Send + Sync + 'static>(&self) -> Arc<T> {
        self.get().unwrap_or_else(|| {
            let made: Arc<T> = Arc::default();
            self.store().find_or_insert(TypeId::of::<T>(), made.clone()).and_then(typed).unwrap_or(made)
        })
    }

    /// Forgets the value of a type, and returns it.
    pub fn remove<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        self.store().take(TypeId::of::<T>()).and_then(typed)
    }

    fn store(&self) -> &ItemStore {
        match &self.0 {
            Source::Connection(state) => &state.items,
            Source::Test(store) => store,
        }
    }
}

/// Tells nothing of the values, which are the user's.
impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Items").finish_non_exhaustive()
    }
}

type Item = Arc<dyn Any + Send + Sync>;

/// The values of one connection. There are few, so a list will do. No value is made, cloned or dropped under the lock.
#[derive(Default)]
pub(super) struct ItemStore(Mutex<Vec<(TypeId, Item)>>);

impl ItemStore {
    fn find(&self, kind: TypeId) -> Option<Item> {
        self.0.lock().iter().find(|(k, _)| *k == kind).map(|(_, item)| item.clone())
    }

    fn replace(&self, kind: TypeId, value: Item) -> Option<Item> {
        let mut items = self.0.lock();
        match items.iter_mut().find(|(k, _)| *k == kind) {
            Some((_, item)) => Some(std::mem::replace(item, value)),
            None => {
                items.push((kind, value));
                None
            }
        }
    }

    /// The value that was there first, if there was one.
    fn find_or_insert(&self, kind: TypeId, value: Item) -> Option<Item> {
        let mut items = self.0.lock();
        if let Some((_, item)) = items.iter().find(|(k, _)| *k == kind) {
            return Some(item.clone());
        }
        items.push((kind, value));
        None
    }

    fn take(&self, kind: TypeId) -> Option<Item> {
        let mut items = self.0.lock();
        let at = items.iter().position(|(k, _)| *k == kind)?;
        Some(items.swap_remove(at).1)
    }
}

fn typed<T: Send + Sync + 'static>(item: Item) -> Option<Arc<T>> {
    item.downcast().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_value_of_a_type() {
        let items = Items::for_test();
        assert_eq!(items.get::<u8>(), None);
        assert_eq!(items.insert(1_u8), None);
        assert_eq!(items.insert(2_u8).as_deref(), Some(&1));
        assert_eq!(items.insert("text"), None);
        assert_eq!(*items.get_or_default::<u8>(), 2);
        assert_eq!(*items.get_or_default::<u16>(), 0);
        assert_eq!(items.remove::<u8>().as_deref(), Some(&2));
        assert_eq!(items.get::<u8>(), None);
        assert_eq!(items.get::<&str>().as_deref(), Some(&"text"));
    }
}
