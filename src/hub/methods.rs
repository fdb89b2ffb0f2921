use super::invocation::Method;
use crate::Policy;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

/// A hub's methods by name, without regard to case. The usual spelling is found without allocating.
#[derive(Default)]
pub(super) struct Methods {
    declared: HashMap<Box<str>, Arc<Method>, BuildHasherDefault<Fnv>>,
    folded: HashMap<Box<str>, Arc<Method>, BuildHasherDefault<Fnv>>,
}

/// FNV-1a: for names of a few letters a third of what the default costs. Only the hub's own names are ever kept.
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Methods {
    /// Adds a method.
    ///
    /// # Panics
    ///
    /// If there is one of that name: which of the two is called would be a matter of chance.
    pub(super) fn add(&mut self, method: Method) {
        let method = Arc::new(method);
        let known = self.folded.insert(method.name.to_lowercase().into(), method.clone());
        assert!(known.is_none(), "the hub has two methods named {:?}, without regard to case", method.name);
        self.declared.insert(method.name.clone(), method);
    }

    /// Guards a method, beside what guards it already.
    ///
    /// # Panics
    ///
    /// If there is none of that name: nobody would learn that what was meant to be guarded is not.
    pub(super) fn guard(&mut self, name: &str, policy: Policy) {
        let Some(method) = self.folded.remove(&*name.to_lowercase()) else { panic!("the hub has no method {name:?}") };
        self.declared.remove(&method.name);
        let mut method = Arc::into_inner(method).expect("nothing calls a method of a hub that is being built");
        method.policy = Some(match method.policy {
            Some(before) => before.and(policy),
            None => policy,
        });
        self.add(method);
    }

    pub(super) fn find(&self, target: &str) -> Option<&Arc<Method>> {
        self.declared.get(target).or_else(|| self.folded.get(&*target.to_lowercase()))
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.declared.keys().map(|name| &**name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn method(name: &str) -> Method {
        let start = Box::new(|_: &mut super::super::Call<'_>| Err(super::super::HubError::client("not called")));
        Method { name: name.into(), arguments: 0, uploads: 0, streaming: false, policy: None, start }
    }

    #[test]
    fn names_are_found_in_any_case() {
        let mut methods = Methods::default();
        methods.add(method("SendÄ"));
        for spelling in ["SendÄ", "sendä", "SENDÄ"] {
            assert_eq!(&*methods.find(spelling).unwrap().name, "SendÄ");
        }
        assert!(methods.find("Send").is_none());
    }

    #[test]
    #[should_panic(expected = "two methods")]
    fn a_name_is_given_once() {
        let mut methods = Methods::default();
        methods.add(method("Send"));
        methods.add(method("send"));
    }
}
