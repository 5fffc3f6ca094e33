//! The calls of the API that the scenarios use, each with all that its answer has to be.
//!
//! The scenarios call these. Every call **fails** with a [`Failure`] when the answer is not the
//! expected one, and **blocks** as `client` says. Where the Python template asks for no token, it
//! ignores the one that is sent.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use ureq::http::Method;

use crate::client::{Call, Client};
use crate::failure::Failure;
use crate::names::Account;

/// How many entries a page may have.
const PAGE_MAX: &str = "200";

/// A row that was created, as its creation was answered.
pub(crate) struct Created {
    pub(crate) pubid: String,
    body: Value,
}

impl Client<'_> {
    /// How many users the first page has.
    pub(crate) fn list_users(&self) -> Result<usize, Failure> {
        let call = Call::new(Method::GET, "/users");
        Ok(self.send(&call)?.expect(200)?.list("users")?.len())
    }

    /// The same, when there is at least one.
    pub(crate) fn list_some_users(&self) -> Result<(), Failure> {
        let call = Call::new(Method::GET, "/users");
        let answer = self.send(&call)?.expect(200)?;
        match answer.list("users")? {
            [] => Err(answer.is_not("`users` not to be empty".to_owned())),
            _ => Ok(()),
        }
    }

    pub(crate) fn create_user(
        &self,
        account: &Account,
        fullname: &str,
    ) -> Result<Created, Failure> {
        let call = creation(account, fullname);
        let answer = self.send(&call)?.expect(201)?;
        let members = [("name", &json!(account.name)), ("fullname", &json!(fullname))];
        let answer = answer.expect_members(&members)?;
        Ok(Created { pubid: answer.text("pubid")?, body: answer.json })
    }

    /// Creates a user and answers its id; `None` when the name is taken.
    pub(crate) fn add_user(
        &self,
        account: &Account,
        fullname: &str,
    ) -> Result<Option<String>, Failure> {
        let call = creation(account, fullname);
        let answer = self.send(&call)?;
        match answer.status {
            409 => Ok(None),
            201 => answer.text("pubid").map(Some),
            _ => Err(answer.is_not("201, or 409".to_owned())),
        }
    }

    /// Reads a user, who has to be as the creation was answered.
    pub(crate) fn read_user_back(&self, user: &Created) -> Result<(), Failure> {
        self.read_back("/users/{pubid}", user, &["pubid", "name", "fullname"])
    }

    /// Reads a user, whose full name has to be a possible one.
    pub(crate) fn check_fullname(
        &self,
        pubid: &str,
        is_possible: impl Fn(&str) -> bool,
    ) -> Result<(), Failure> {
        let call = Call::new(Method::GET, "/users/{pubid}").of(pubid);
        let answer = self.send(&call)?.expect(200)?;
        let answer = answer.expect_members(&[("pubid", &json!(pubid))])?;
        match is_possible(&answer.text("fullname")?) {
            true => Ok(()),
            false => Err(answer.is_not("a `fullname` that was sent".to_owned())),
        }
    }

    /// Gives a user another full name.
    pub(crate) fn update_fullname(
        &self,
        pubid: &str,
        token: &str,
        fullname: &str,
    ) -> Result<(), Failure> {
        let body = json!({ "fullname": fullname });
        let call = Call::new(Method::PUT, "/users/{pubid}").of(pubid).bearer(token).json(&body);
        let answer = self.send(&call)?.expect(200)?;
        let members = [("pubid", &json!(pubid)), ("fullname", &json!(fullname))];
        answer.expect_members(&members).map(drop)
    }

    /// Deletes a user, and the items with it.
    pub(crate) fn delete_user(&self, pubid: &str, token: &str) -> Result<(), Failure> {
        let call = Call::new(Method::DELETE, "/users/{pubid}").of(pubid).bearer(token);
        self.send(&call)?.expect(200).map(drop)
    }

    /// The access token of a user.
    pub(crate) fn log_in(&self, account: &Account) -> Result<String, Failure> {
        let fields = [("username", &*account.name), ("password", &*account.password)];
        let call = Call::new(Method::POST, "/auth/token").form(&fields);
        let call = call.hiding(&account.password).answering_secrets();
        self.send(&call)?.expect(200)?.text("access_token")
    }

    pub(crate) fn create_item(
        &self,
        name: &str,
        user_pubid: &str,
        token: &str,
    ) -> Result<Created, Failure> {
        let body = json!({ "name": name, "user_pubid": user_pubid });
        let call = Call::new(Method::POST, "/items").bearer(token).json(&body);
        let answer = self.send(&call)?.expect(201)?;
        let members = [("name", &json!(name)), ("user_pubid", &json!(user_pubid))];
        let answer = answer.expect_members(&members)?;
        answer.text("added")?;
        Ok(Created { pubid: answer.text("pubid")?, body: answer.json })
    }

    /// Reads an item, which has to be as the creation was answered.
    pub(crate) fn read_item_back(&self, item: &Created) -> Result<(), Failure> {
        self.read_back("/items/{pubid}", item, &["pubid", "name", "added", "user_pubid"])
    }

    /// The ids of all users by their names.
    pub(crate) fn all_users(&self) -> Result<BTreeMap<String, String>, Failure> {
        self.all("/users", "users", &[])
    }

    /// The ids of all items of a user by their names.
    pub(crate) fn all_items(&self, user_pubid: &str) -> Result<BTreeMap<String, String>, Failure> {
        self.all("/items", "items", &[("user_pubid", user_pubid)])
    }

    /// The failure of a name that is taken although no page lists it.
    pub(crate) fn misses_user(&self, name: &str) -> Failure {
        Failure {
            client: self.name.clone(),
            method: "GET",
            path: "/users".to_owned(),
            expected: format!("{name}, since the name is taken"),
            status: Some(200),
            came: "200 on every page, without that user".to_owned(),
        }
    }

    fn read_back(
        &self,
        route: &'static str,
        created: &Created,
        members: &[&str],
    ) -> Result<(), Failure> {
        let call = Call::new(Method::GET, route).of(&created.pubid);
        let answer = self.send(&call)?.expect(200)?;
        let same: Vec<(&str, &Value)> =
            members.iter().map(|name| (*name, &created.body[*name])).collect();
        answer.expect_members(&same).map(drop)
    }

    /// Reads a list page by page; a server without pages answers all at once.
    fn all(
        &self,
        route: &'static str,
        list: &str,
        fields: &[(&str, &str)],
    ) -> Result<BTreeMap<String, String>, Failure> {
        let (mut found, mut cursor) = (BTreeMap::new(), None);
        loop {
            let mut query = [&[("limit", PAGE_MAX)], fields].concat();
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let call = Call::new(Method::GET, route).query(&query);
            let answer = self.send(&call)?.expect(200)?;
            for entry in answer.list(list)? {
                let (Some(name), Some(pubid)) = (entry["name"].as_str(), entry["pubid"].as_str())
                else {
                    return Err(answer.is_not("a name and a pubid in every entry".to_owned()));
                };
                found.insert(name.to_owned(), pubid.to_owned());
            }
            match answer.json["page"]["next_cursor"].as_str().map(str::to_owned) {
                None => return Ok(found),
                // A cursor that leads nowhere would never end.
                next if next == cursor => {
                    return Err(answer.is_not("another cursor than the last one".to_owned()));
                }
                next => cursor = next,
            }
        }
    }
}

fn creation<'a>(account: &'a Account, fullname: &str) -> Call<'a> {
    let Account { name, password } = account;
    let body = json!({ "name": name, "password": password, "fullname": fullname });
    Call::new(Method::POST, "/users").json(&body).hiding(password)
}
