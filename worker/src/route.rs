//! Routes: the table of an application's operations, and what a handler is.
//!
//! The application fills [`Routes`] at start; `router.rs` makes the router of it, and whoever wants
//! the API document reads the same table, so the two cannot drift apart.
//! Promises: an entry carries its name, inputs, success and problems from the start; a table that
//! contradicts itself is refused before the port is served.
//! Does not know: how requests arrive.

use std::future::Future;
use std::rc::Rc;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use hyper::Method;

use crate::durations::Durations;
use crate::problem::{Kind, Problem};
use crate::request::{Call, Context, Input, InputSpec};
use crate::response::{Response, Success, SuccessSpec};
use crate::router::{RouteConflict, Router};

/// A handler at work: the one allocation a request costs.
pub(crate) type Answering = LocalBoxFuture<'static, Result<Response, Problem>>;
/// A handler with its application.
pub(crate) type Endpoint = Box<dyn Fn(Call) -> Answering>;

/// An async function of the application that answers an operation: it takes the context and up to three
/// inputs, and returns a success or something that becomes a problem. Its future need not be `Send`.
pub trait Handler<A, Inputs>: 'static {
    /// Describe what it reads.
    fn inputs() -> Vec<InputSpec>;

    /// Describe what it answers when all goes well.
    fn success() -> SuccessSpec;

    /// Answer a request.
    fn call(&self, app: Rc<A>, call: Call) -> LocalBoxFuture<'static, Result<Response, Problem>>;
}

macro_rules! handler {
    ($($input:ident),*) => {
        impl<A, F, Fut, S, E, $($input),*> Handler<A, ($($input,)*)> for F
        where
            A: 'static,
            F: Fn(Context<A>, $($input),*) -> Fut + 'static,
            Fut: Future<Output = Result<S, E>> + 'static,
            S: Success,
            E: Into<Problem>,
            $($input: Input,)*
        {
            fn inputs() -> Vec<InputSpec> {
                vec![$($input::spec()),*]
            }

            fn success() -> SuccessSpec {
                S::spec()
            }

            #[allow(non_snake_case, unused_mut, reason = "variables of a macro, named as their types")]
            fn call(&self, app: Rc<A>, mut call: Call) -> Answering {
                $(let $input = $input::take(&mut call);)*
                let answering = self(Context::new(app, call), $($input),*);
                async move { answering.await.map_err(Into::into).and_then(Success::respond) }
                    .boxed_local()
            }
        }
    };
}

handler!();
handler!(One);
handler!(One, Two);
handler!(One, Two, Three);

/// One entry of the table.
#[derive(Debug)]
pub struct Operation {
    /// Its method.
    pub method: Method,
    /// Its path, with `{name}` for parameters.
    pub pattern: &'static str,
    /// Its unique name, for example `users-list`; the first word is its chapter in the API document.
    pub name: &'static str,
    /// What it does, in a few words; may be empty.
    pub about: &'static str,
    /// What it reads.
    pub inputs: Vec<InputSpec>,
    /// What it answers when all goes well.
    pub success: SuccessSpec,
    /// The kinds of problems it answers with otherwise, besides those any request can meet.
    pub problems: Vec<&'static Kind>,
}

impl Operation {
    /// Say in a few words what it does.
    pub fn about(&mut self, text: &'static str) -> &mut Self {
        self.about = text;
        self
    }

    /// Declare kinds of problems. Those of bad input need no word: the inputs tell them.
    pub fn fails(&mut self, kinds: &[&'static Kind]) -> &mut Self {
        for kind in kinds {
            if !self.problems.contains(kind) {
                self.problems.push(kind);
            }
        }
        self
    }
}

/// The table of an application whose state is `A`.
pub struct Routes<A> {
    entries: Vec<Entry<A>>,
    durations: Option<Durations>,
}

struct Entry<A> {
    operation: Operation,
    bind: Box<dyn FnOnce(Rc<A>) -> Endpoint>,
}

impl<A: 'static> Routes<A> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self { entries: Vec::new(), durations: None }
    }

    /// Answer GET (and HEAD) on `pattern`.
    pub fn get<H, I>(
        &mut self,
        pattern: &'static str,
        name: &'static str,
        handler: H,
    ) -> &mut Operation
    where
        H: Handler<A, I>,
    {
        self.add(Method::GET, pattern, name, handler)
    }

    /// Answer POST on `pattern`.
    pub fn post<H, I>(
        &mut self,
        pattern: &'static str,
        name: &'static str,
        handler: H,
    ) -> &mut Operation
    where
        H: Handler<A, I>,
    {
        self.add(Method::POST, pattern, name, handler)
    }

    /// Answer PUT on `pattern`.
    pub fn put<H, I>(
        &mut self,
        pattern: &'static str,
        name: &'static str,
        handler: H,
    ) -> &mut Operation
    where
        H: Handler<A, I>,
    {
        self.add(Method::PUT, pattern, name, handler)
    }

    /// Answer PATCH on `pattern`.
    pub fn patch<H, I>(
        &mut self,
        pattern: &'static str,
        name: &'static str,
        handler: H,
    ) -> &mut Operation
    where
        H: Handler<A, I>,
    {
        self.add(Method::PATCH, pattern, name, handler)
    }

    /// Answer DELETE on `pattern`.
    pub fn delete<H, I>(
        &mut self,
        pattern: &'static str,
        name: &'static str,
        handler: H,
    ) -> &mut Operation
    where
        H: Handler<A, I>,
    {
        self.add(Method::DELETE, pattern, name, handler)
    }

    /// All operations, in the order they were added.
    pub fn operations(&self) -> impl Iterator<Item = &Operation> {
        self.entries.iter().map(|entry| &entry.operation)
    }

    /// The same, to be described otherwise.
    pub fn operations_mut(&mut self) -> impl Iterator<Item = &mut Operation> {
        self.entries.iter_mut().map(|entry| &mut entry.operation)
    }

    /// Count requests in these series, which somebody else reads by their places; an operation that is
    /// not among them is counted as one without a route.
    pub fn counted_in(&mut self, durations: Durations) {
        self.durations = Some(durations);
    }

    /// Give every handler the application and make the router.
    ///
    /// # Errors
    /// The first contradiction in the table: see [`RouteConflict`].
    pub fn seal(self, app: Rc<A>) -> Result<Router, RouteConflict> {
        let bind = move |entry: Entry<A>| (entry.operation, (entry.bind)(Rc::clone(&app)));
        Router::new(self.entries.into_iter().map(bind).collect(), self.durations)
    }

    fn add<H, I>(
        &mut self,
        method: Method,
        pattern: &'static str,
        name: &'static str,
        handler: H,
    ) -> &mut Operation
    where
        H: Handler<A, I>,
    {
        let (inputs, success) = (H::inputs(), H::success());
        let mut operation =
            Operation { method, pattern, name, about: "", inputs, success, problems: Vec::new() };
        let of_inputs: Vec<_> = operation.inputs.iter().map(|input| input.problems).collect();
        operation.fails(&of_inputs.concat());
        let bind = move |app: Rc<A>| -> Endpoint {
            Box::new(move |call| handler.call(Rc::clone(&app), call))
        };
        self.entries.push(Entry { operation, bind: Box::new(bind) });
        &mut self.entries.last_mut().expect("just pushed").operation
    }
}

impl<A: 'static> Default for Routes<A> {
    fn default() -> Self {
        Self::new()
    }
}
