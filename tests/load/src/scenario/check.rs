//! Whether a scenario makes sense: what its parser lets pass and no server could answer.
//!
//! [`Scenario::parse`] asks what can be known without rows, [`Scenario::check`] is for the conductor
//! that has them. Every complaint is one line that names the request, what is wrong, and what would be
//! right.

use hyper::http::{HeaderName, HeaderValue, Uri};

use super::{Request, Rows, Scenario, Source, Template};

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
/// Headers that say how a message is sent, which is the client's affair.
const OWN_HEADERS: [&str; 4] = ["host", "connection", "content-length", "transfer-encoding"];

impl Scenario {
    /// Whether it can do without SQL.
    ///
    /// # Errors
    /// One line that names the key which cannot.
    pub(crate) fn check_without_database(&self) -> Result<(), String> {
        let keys = [("setup", &self.setup), ("cleanup", &self.cleanup)];
        match keys.iter().find(|(_, sql)| sql.is_some()) {
            None => Ok(()),
            Some((key, _)) => Err(format!(
                "the scenario's `{key}` is for a database, and --url has none: leave it out, and \
                 make the rows over the server's API"
            )),
        }
    }

    /// Whether these rows have all that its placeholders name.
    ///
    /// # Errors
    /// One line: which request, what is missing, what there is.
    pub(crate) fn check(&self, rows: &Rows) -> Result<(), String> {
        for request in &self.requests {
            for template in request.templates() {
                let missing = template.and_then(|template| has_all(&template, rows));
                missing.map_err(|error| request.complaint(&error))?;
            }
        }
        Ok(())
    }
}

impl Request {
    pub(super) fn complaint(&self, error: &str) -> String {
        format!("request `{}`: {error}", self.name)
    }

    /// Path, headers and body, taken apart.
    pub(super) fn templates(&self) -> impl Iterator<Item = Result<Template, String>> {
        let texts = [Some(&self.path), self.body.as_ref()].into_iter().flatten();
        texts.chain(self.headers.values()).map(|text| Template::parse(text))
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.weight == 0 {
            return Err("weight 0: leave the request out, or let it weigh 1 or more".to_owned());
        }
        if !METHODS.contains(&self.method.as_str()) {
            let methods = METHODS.join(", ");
            return Err(format!("method `{}`: it has to be one of {methods}", self.method));
        }
        if let Some(status) = self.status.filter(|status| !(200..600).contains(status)) {
            return Err(format!("status {status}: it has to be one from 200 to 599"));
        }
        self.templates().try_for_each(|template| template.map(drop))?;
        check_path(&self.path)?;
        self.headers.iter().try_for_each(|(name, value)| check_header(name, value))
    }
}

impl Source {
    pub(super) fn check(&self) -> Result<(), String> {
        let Self::Given { columns, rows } = self else { return Ok(()) };
        match rows.iter().position(|row| row.len() != columns.len()) {
            None => Ok(()),
            Some(index) => Err(format!(
                "row {} has {} values for {} columns",
                index + 1,
                rows[index].len(),
                columns.len()
            )),
        }
    }
}

fn check_path(path: &str) -> Result<(), String> {
    let filled = Template::parse(path)?.filled_with("x");
    if !filled.starts_with('/') {
        return Err(format!("path `{path}`: it has to begin with `/`"));
    }
    match filled.parse::<Uri>() {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("path `{path}`: {error}; write odd characters as `%20`")),
    }
}

fn check_header(name: &str, value: &str) -> Result<(), String> {
    let known: HeaderName =
        name.parse().map_err(|_| format!("header `{name}`: that is no name of a header"))?;
    if OWN_HEADERS.contains(&known.as_str()) {
        return Err(format!("header `{name}`: the client sets it itself; leave it out"));
    }
    match HeaderValue::from_str(&Template::parse(value)?.filled_with("x")) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("header `{name}`: its value has to be one line of visible ASCII")),
    }
}

fn has_all(template: &Template, rows: &Rows) -> Result<(), String> {
    let listed = |names: Vec<&str>| match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    };
    for (name, column) in template.columns() {
        let Some(table) = rows.get(name) else {
            let names = listed(rows.keys().map(String::as_str).collect());
            return Err(format!("no rows `{name}` for `{{{name}.{column}}}`: there are {names}"));
        };
        if !table.columns.iter().any(|known| known == column) {
            let names = listed(table.columns.iter().map(String::as_str).collect());
            return Err(format!("`{name}` has no column `{column}`: it has {names}"));
        }
        if table.rows.is_empty() {
            return Err(format!("there is no row of `{name}` to take `{column}` from"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::Table;
    use super::super::tests::{ABOUT, error_of, table};
    use super::*;

    fn error_of_request(lines: &str) -> String {
        let error = error_of(&format!("[[request]]\nname = 'r'\n{lines}"));
        assert!(error.contains("`r`") || error.contains("request 1"), "{error}");
        error
    }

    #[test]
    fn a_bad_request_is_told_in_one_line_that_names_it() {
        let error = error_of_request("path = '/'\nwieght = 2");
        assert!(error.contains("line 5") && error.contains("`weight`"), "{error}");
        assert!(error_of_request("weight = 1").contains("missing field `path`"));
        assert!(error_of_request("path = '/'\nweight = 0").contains("weight 0"));
        assert!(error_of_request("path = '/'\nmethod = 'get'").contains("GET, HEAD"));
        assert!(error_of_request("path = 'items'").contains("begin with `/`"));
        assert!(error_of_request("path = '/a b'").contains("%20"));
        assert!(error_of_request("path = '/{item}'").contains("`{unique}`"));
        assert!(error_of_request("path = '/'\nbody = '{item}'").contains("`{unique}`"));
        assert!(error_of_request("path = '/'\nheaders = {'a b' = 'x'}").contains("`a b`"));
        assert!(error_of_request("path = '/'\nheaders = {Host = 'x'}").contains("`Host`"));
        assert!(error_of_request("path = '/'\nheaders = {a = \"x\\n\"}").contains("one line"));
        assert!(error_of_request("path = '/'\nstatus = 99").contains("status 99"));
    }

    #[test]
    fn sql_is_refused_where_there_is_no_database() {
        let scenario = |keys: &str| {
            let text = format!("{ABOUT}{keys}\n[[request]]\nname = 'r'\npath = '/'");
            Scenario::parse(&text).unwrap()
        };
        assert_eq!(scenario("").check_without_database(), Ok(()));
        for key in ["setup", "cleanup"] {
            let told = scenario(&format!("{key} = 'select 1'")).check_without_database();
            let told = told.unwrap_err();
            assert!(told.contains(&format!("`{key}`")) && told.contains("--url"), "{told}");
        }
    }

    #[test]
    fn rows_that_are_not_there_are_told_with_those_that_are() {
        let text = format!("{ABOUT}[[request]]\nname = 'r'\npath = '/{{city.code}}'");
        let scenario = Scenario::parse(&text).unwrap();
        let check = |rows: &[(&str, Table)]| {
            let rows = rows.iter().map(|(name, table)| ((*name).to_owned(), table.clone()));
            scenario.check(&rows.collect())
        };
        let rows = table(&["name"], &[&["1"]]);
        let error = check(&[("user", rows.clone())]).unwrap_err();
        assert_eq!(error, "request `r`: no rows `city` for `{city.code}`: there are user");
        let error = check(&[("city", rows)]).unwrap_err();
        assert_eq!(error, "request `r`: `city` has no column `code`: it has name");
        assert!(check(&[("city", table(&["code"], &[]))]).unwrap_err().contains("no row"));
        assert_eq!(check(&[("city", table(&["code"], &[&["1"]]))]), Ok(()));
    }
}
