use std::future::Future;

/// An async function of up to eight parameters, which are the tuple `A`. Implemented for all of them; not to be implemented.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no hub function with the parameters `{A}`",
    label = "not a hub function",
    note = "a hub function is an `async fn`, or a closure that returns a future, which is `Send + 'static`",
    note = "it has at most eight parameters, and returns `hubwire::HubResult<_>`"
)]
pub trait Callable<A>: Send + Sync + 'static {
    /// What it resolves to.
    type Output;
    /// Its future.
    type Future: Future<Output = Self::Output> + Send + 'static;

    /// Calls it.
    fn call(&self, parameters: A) -> Self::Future;
}

/// Expands a macro for each number of parameters, with a type and a kind for each of them.
macro_rules! arities {
    ($m:ident) => {
        $m!();
        $m!(T1 K1);
        $m!(T1 K1, T2 K2);
        $m!(T1 K1, T2 K2, T3 K3);
        $m!(T1 K1, T2 K2, T3 K3, T4 K4);
        $m!(T1 K1, T2 K2, T3 K3, T4 K4, T5 K5);
        $m!(T1 K1, T2 K2, T3 K3, T4 K4, T5 K5, T6 K6);
        $m!(T1 K1, T2 K2, T3 K3, T4 K4, T5 K5, T6 K6, T7 K7);
        $m!(T1 K1, T2 K2, T3 K3, T4 K4, T5 K5, T6 K6, T7 K7, T8 K8);
    };
}
pub(super) use arities;

macro_rules! callable {
    ($($t:ident $k:ident),*) => {
        #[allow(non_snake_case)]
        impl<F, Fut, $($t,)*> Callable<($($t,)*)> for F
        where
            F: Fn($($t),*) -> Fut + Send + Sync + 'static,
            Fut: Future + Send + 'static,
        {
            type Output = Fut::Output;
            type Future = Fut;

            fn call(&self, ($($t,)*): ($($t,)*)) -> Fut {
                self($($t),*)
            }
        }
    };
}
arities!(callable);
