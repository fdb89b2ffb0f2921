use pin_project_lite::pin_project;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Code of the hub's user panicked. The default text of a panic says what and where, on standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it panicked")]
pub(super) struct Panicked;

/// Runs code of the hub's user.
///
/// What it leaves half done is its own: nothing of ours is changed inside.
pub(super) fn contained<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| Panicked)
}

pin_project! {
    /// A future of the hub's user: a panic is an outcome, also when it is dropped.
    pub(super) struct Contained<F> {
        #[pin]
        future: Option<F>,
    }

    impl<F> PinnedDrop for Contained<F> {
        fn drop(this: Pin<&mut Self>) {
            let mut future = this.project().future;
            let _ = contained(|| future.set(None));
        }
    }
}

impl<F: Future> Contained<F> {
    pub(super) fn new(future: F) -> Self {
        Self { future: Some(future) }
    }
}

impl<F: Future> Future for Contained<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut future = self.project().future;
        let polled = contained(|| match future.as_mut().as_pin_mut() {
            Some(running) => running.poll(cx),
            None => Poll::Pending,
        });
        let outcome = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(outcome)) => Ok(outcome),
            Err(panicked) => Err(panicked),
        };
        // what it came to stands, however its remains take it
        let _ = contained(|| future.set(None));
        Poll::Ready(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    fn quietly<T>(run: impl FnOnce() -> T) -> T {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let result = run();
        std::panic::set_hook(hook);
        result
    }

    #[test]
    fn a_panic_is_an_outcome_wherever_it_happens() {
        let mut cx = Context::from_waker(Waker::noop());
        quietly(|| {
            let mut future = std::pin::pin!(Contained::new(async { panic!("polled") }));
            assert_eq!(future.as_mut().poll(&mut cx), Poll::<Result<(), _>>::Ready(Err(Panicked)));
            let bomb = Bomb;
            let mut future = std::pin::pin!(Contained::new(async move {
                let _bomb = bomb;
                7
            }));
            assert_eq!(future.as_mut().poll(&mut cx), Poll::Ready(Err(Panicked)));
            let bomb = Bomb;
            drop(Contained::new(async move {
                let _bomb = bomb;
            }));
        });
    }
}
