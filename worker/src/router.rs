//! The router: from a path and a method to an endpoint.
//!
//! `route.rs` makes it once, of the whole table; `answer.rs` asks it once per request.
//! Promises: a lookup allocates nothing; HEAD is served by GET; a known path knows its `Allow`; a path
//! with one slash too many at its end is the same path.
//! Does not know: what an endpoint does, or that `%41` is an `A`: patterns match the path as it came,
//! and parameters are decoded when they are read.
//! Source: RFC 9110 sections 9 and 15.5.6.

use hyper::Method;
use hyper::header::HeaderValue;
use thiserror::Error;

use crate::durations::{Durations, Place};
use crate::error::HttpError;
use crate::fields::Source;
use crate::given::parameter_name;
use crate::route::{Endpoint, Operation};

/// Where requests go. Made by [`Routes::seal`](crate::Routes::seal).
pub struct Router {
    paths: matchit::Router<Resource>,
    durations: Durations,
}

/// One path with the methods it takes.
pub(crate) struct Resource {
    /// Its pattern.
    pub(crate) pattern: &'static str,
    endpoints: [Option<(Endpoint, Place)>; METHODS.len()],
    allow: HeaderValue,
    accept_patch: Option<HeaderValue>,
}

/// The methods an operation may have, in the order `Allow` lists them.
const METHODS: [Method; 5] =
    [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// A table of routes that contradicts itself: a mistake in the application, told at start.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum RouteConflict {
    /// Two operations have one name.
    #[error("two operations are called {name}; rename one")]
    Name {
        /// The name.
        name: &'static str,
    },
    /// Two operations have one method and pattern.
    #[error("{method} {pattern} is declared twice; remove one")]
    Operation {
        /// Its method.
        method: Method,
        /// Its pattern.
        pattern: &'static str,
    },
    /// A pattern cannot be a route.
    #[error("{pattern} cannot be a route: {reason}")]
    Pattern {
        /// The pattern.
        pattern: &'static str,
        /// Why not.
        reason: String,
    },
    /// A handler reads a path parameter that its pattern does not have.
    #[error("{name} reads the path parameter {parameter}, but {pattern} has none of that name")]
    Parameter {
        /// Name of the operation.
        name: &'static str,
        /// The pattern.
        pattern: &'static str,
        /// The parameter.
        parameter: &'static str,
    },
    /// A handler takes the body more than once.
    #[error("{name} takes the body more than once; a body can be read once")]
    Body {
        /// Name of the operation.
        name: &'static str,
    },
}

impl Router {
    /// Requests are counted in the series of `durations`; without them, in those of the entries.
    pub(crate) fn new(
        entries: Vec<(Operation, Endpoint)>,
        durations: Option<Durations>,
    ) -> Result<Self, RouteConflict> {
        let own = || Durations::of(entries.iter().map(|(operation, _)| operation));
        let durations = durations.unwrap_or_else(own);
        let mut resources: Vec<Resource> = Vec::new();
        let mut names: Vec<&'static str> = Vec::new();
        for (operation, endpoint) in entries {
            check(&operation, &names)?;
            names.push(operation.name);
            let place = durations.place(&operation.method, operation.pattern);
            let endpoint = (endpoint, place);
            match resources.iter_mut().find(|resource| resource.pattern == operation.pattern) {
                Some(resource) => resource.add(&operation, endpoint)?,
                None => {
                    let mut resource = Resource::new(operation.pattern);
                    resource.add(&operation, endpoint)?;
                    resources.push(resource);
                }
            }
        }
        Self::of(resources, durations)
    }

    fn of(resources: Vec<Resource>, durations: Durations) -> Result<Self, RouteConflict> {
        let mut paths = matchit::Router::new();
        for resource in resources {
            let pattern = resource.pattern;
            paths.insert(pattern, resource).map_err(|error| RouteConflict::Pattern {
                pattern,
                reason: error.to_string().to_lowercase(),
            })?;
        }
        Ok(Self { paths, durations })
    }

    /// Where its requests are counted.
    pub(crate) fn durations(&self) -> &Durations {
        &self.durations
    }

    /// The resource at `path`.
    ///
    /// # Errors
    /// [`HttpError::NotFound`].
    pub(crate) fn at(&self, path: &str) -> Result<&Resource, HttpError> {
        let shorter = || path.strip_suffix('/').filter(|path| !path.is_empty());
        let found = self.paths.at(path).ok();
        let found = found.or_else(|| shorter().and_then(|path| self.paths.at(path).ok()));
        found.map(|found| found.value).ok_or(HttpError::NotFound)
    }
}

impl Resource {
    fn new(pattern: &'static str) -> Self {
        let allow = HeaderValue::from_static("OPTIONS");
        Self { pattern, endpoints: std::array::from_fn(|_| None), allow, accept_patch: None }
    }

    fn add(
        &mut self,
        operation: &Operation,
        endpoint: (Endpoint, Place),
    ) -> Result<(), RouteConflict> {
        let place = place(&operation.method).map(|place| &mut self.endpoints[place]);
        match place {
            Some(place @ None) => *place = Some(endpoint),
            _ => {
                let method = operation.method.clone();
                return Err(RouteConflict::Operation { method, pattern: operation.pattern });
            }
        }
        self.allow = self.allowed();
        if operation.method == Method::PATCH {
            let bodies = operation.inputs.iter().flat_map(|input| input.media_types).copied();
            let bodies: Vec<&str> = bodies.collect();
            self.accept_patch = HeaderValue::try_from(bodies.join(", ")).ok();
        }
        Ok(())
    }

    fn allowed(&self) -> HeaderValue {
        let methods = METHODS.iter().zip(&self.endpoints);
        let mut allow: Vec<&str> = methods
            .filter(|(_, endpoint)| endpoint.is_some())
            .flat_map(|(method, _)| match *method {
                Method::GET => vec!["GET", "HEAD"],
                _ => vec![method.as_str()],
            })
            .collect();
        allow.push("OPTIONS");
        HeaderValue::from_str(&allow.join(", ")).expect("names of methods are ASCII")
    }

    /// What answers `method`, and where that is counted; GET answers HEAD.
    ///
    /// # Errors
    /// [`HttpError::MethodNotAllowed`].
    pub(crate) fn endpoint(&self, method: &Method) -> Result<(&Endpoint, Place), HttpError> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let endpoint = place(method).and_then(|place| self.endpoints[place].as_ref());
        let endpoint = endpoint.map(|(endpoint, place)| (endpoint, *place));
        endpoint.ok_or_else(|| HttpError::MethodNotAllowed { allow: self.allow.clone() })
    }

    /// The methods this path takes, as the header lists them.
    pub(crate) fn allow(&self) -> &HeaderValue {
        &self.allow
    }

    /// The media types that a PATCH of this path takes, if there is one.
    pub(crate) fn accept_patch(&self) -> Option<&HeaderValue> {
        self.accept_patch.as_ref()
    }
}

fn place(method: &Method) -> Option<usize> {
    METHODS.iter().position(|known| known == method)
}

fn check(operation: &Operation, names: &[&str]) -> Result<(), RouteConflict> {
    let Operation { name, pattern, inputs, .. } = operation;
    if names.contains(name) {
        return Err(RouteConflict::Name { name });
    }
    if let Some(reason) = malformed(pattern) {
        return Err(RouteConflict::Pattern { pattern, reason: reason.to_owned() });
    }
    if inputs.iter().filter(|input| input.source == Source::Body).count() > 1 {
        return Err(RouteConflict::Body { name });
    }
    let known = |name: &str| pattern.split('/').any(|part| parameter_name(part) == Some(name));
    let read = inputs.iter().filter(|input| input.source == Source::Path);
    match read.flat_map(|input| &input.spec.fields).find(|field| !known(field.name)) {
        Some(field) => Err(RouteConflict::Parameter { name, pattern, parameter: field.name }),
        None => Ok(()),
    }
}

/// Why a pattern is none of ours; reading parameters relies on whole segments.
fn malformed(pattern: &str) -> Option<&'static str> {
    if !pattern.starts_with('/') {
        return Some("it must begin with a slash");
    }
    if pattern.len() > 1 && pattern.ends_with('/') {
        return Some("it must not end with a slash; both spellings are served");
    }
    let partial = |segment: &str| segment.contains(['{', '}']) && parameter_name(segment).is_none();
    pattern.split('/').any(partial).then_some("a parameter must be a whole segment")
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::fields::{Fields, Payload};
    use crate::request::{Context, Form, Json, Path};
    use crate::response::Empty;
    use crate::route::Routes;
    use crate::rules::Uuid;

    struct Pubid;

    impl Payload for Pubid {
        fn read(fields: &mut Fields<'_>) -> Option<Self> {
            let pubid = fields.required("pubid", Uuid);
            fields.all((pubid,)).map(|_| Self)
        }
    }

    async fn plain(_: Context<()>) -> Result<Empty, HttpError> {
        Ok(Empty)
    }

    async fn one(_: Context<()>, _: Path<Pubid>) -> Result<Empty, HttpError> {
        Ok(Empty)
    }

    async fn two_bodies(
        _: Context<()>,
        _: Json<Pubid>,
        _: Form<Pubid>,
    ) -> Result<Empty, HttpError> {
        Ok(Empty)
    }

    fn router() -> Router {
        let mut routes = Routes::new();
        routes.get("/users", "users-list", plain);
        routes.post("/users", "users-create", plain);
        routes.get("/users/{pubid}", "users-read", one);
        routes.delete("/users/{pubid}", "users-delete", one);
        routes.put("/users/{pubid}/password", "users-password", one);
        routes.get("/", "root", plain);
        routes.seal(Rc::new(())).unwrap()
    }

    fn conflict(fill: impl FnOnce(&mut Routes<()>)) -> String {
        let mut routes = Routes::new();
        fill(&mut routes);
        routes.seal(Rc::new(())).err().expect("a conflict").to_string()
    }

    #[test]
    fn paths_find_their_pattern() {
        let router = router();
        let cases = [
            ("/", Some("/")),
            ("/users", Some("/users")),
            ("/users/", Some("/users")),
            ("/users/1", Some("/users/{pubid}")),
            ("/users/%2F/", Some("/users/{pubid}")),
            ("/users/1/password", Some("/users/{pubid}/password")),
            ("/users//", None),
            ("/nope", None),
            ("/Users", None),
            ("", None),
            ("*", None),
        ];
        for (path, want) in cases {
            assert_eq!(router.at(path).ok().map(|found| found.pattern), want, "{path}");
        }
    }

    #[test]
    fn a_wrong_method_learns_the_right_ones() {
        let router = router();
        let users = router.at("/users").unwrap();
        match users.endpoint(&Method::DELETE) {
            Err(HttpError::MethodNotAllowed { allow }) => {
                assert_eq!(allow, "GET, HEAD, POST, OPTIONS");
            }
            _ => panic!("DELETE /users was allowed"),
        }
        let password = router.at("/users/1/password").unwrap();
        assert_eq!(password.allow(), "PUT, OPTIONS");
        assert!(password.endpoint(&Method::HEAD).is_err());
        assert!(users.endpoint(&Method::TRACE).is_err());
        assert!(users.endpoint(&Method::from_bytes(b"BREW").unwrap()).is_err());
    }

    #[test]
    fn get_answers_head() {
        assert!(router().at("/users").unwrap().endpoint(&Method::HEAD).is_ok());
    }

    #[test]
    fn a_table_that_contradicts_itself_is_refused() {
        let text = conflict(|routes| {
            routes.get("/a", "a", plain);
            routes.get("/b", "a", plain);
        });
        assert_eq!(text, "two operations are called a; rename one");
        let text = conflict(|routes| {
            routes.get("/a", "a", plain);
            routes.get("/a", "b", plain);
        });
        assert_eq!(text, "GET /a is declared twice; remove one");
        let text = conflict(|routes| {
            routes.get("/a/{x}", "a", plain);
            routes.put("/a/{y}", "b", plain);
        });
        assert!(text.starts_with("/a/{y} cannot be a route: "), "{text}");
        let text = conflict(|routes| {
            routes.get("/a/{id}", "a", one);
        });
        let want = "a reads the path parameter pubid, but /a/{id} has none of that name";
        assert_eq!(text, want);
        let text = conflict(|routes| {
            routes.post("/a", "a", two_bodies);
        });
        assert_eq!(text, "a takes the body more than once; a body can be read once");
    }

    #[test]
    fn patterns_are_whole_segments() {
        for pattern in ["a", "/a/", "/a-{x}", "/{x}.json", "/{a}{b}"] {
            assert!(
                conflict(|routes| {
                    routes.get(pattern, "a", plain);
                })
                .starts_with(pattern)
            );
        }
    }

    #[test]
    fn the_table_describes_its_operations() {
        static GONE: crate::Kind =
            crate::Kind { code: "gone", status: 410, title: "Gone", about: "", mend: "" };
        let mut routes = Routes::new();
        routes.get("/users/{pubid}", "users-read", one).about("Read a user").fails(&[&GONE]);
        let operation = routes.operations().next().unwrap();
        assert_eq!((operation.name, operation.pattern), ("users-read", "/users/{pubid}"));
        assert_eq!((operation.about, operation.success.status.as_u16()), ("Read a user", 204));
        assert_eq!(operation.inputs[0].source, Source::Path);
        assert_eq!(operation.inputs[0].spec.fields[0].name, "pubid");
        assert_eq!(operation.problems, [&crate::kinds::INVALID_INPUT, &GONE]);
    }
}
