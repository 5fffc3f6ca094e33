//! Forged access tokens: 80 kinds and more, of which none is taken and none is the server's
//! failure.
//!
//! Source: RFC 8725 (what goes wrong with JSON web tokens), RFC 7515 and 7516 (their forms).

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::harness::api::{check_problem, sign_up};
use crate::harness::client::Reply;
use crate::harness::jwt::{self, SECRET};
use crate::harness::{Database, Launch, Turn, put};

/// A secret that the server does not have.
const FOREIGN: &str = "the secret of somebody else, which is as long";
/// The secret before the one that the server has.
const PREVIOUS: &str = "the secret of last month, which is known to us all";

/// What somebody might make to pass for ann, and what is wrong with it.
struct Forger {
    ann: String,
    bob: String,
    /// Of bob, as the server gave it.
    bobs: String,
    /// Of ann, as the server gave it: what it says must not be changed.
    anns: String,
}

type Forgery = (String, String);

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn unpacked(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().expect("three parts")
}

impl Forger {
    fn claims(&self, change: Value) -> Value {
        jwt::claims(&self.ann, change)
    }

    fn all(&self) -> Vec<Forgery> {
        [self.algorithms(), self.keys(), self.headers(), self.claims_of_others(), self.forms()]
            .concat()
    }

    /// RFC 8725, 3.1 and 3.2: the algorithm is the server's choice.
    fn algorithms(&self) -> Vec<Forgery> {
        let [_, claims, signature] = parts(&self.anns);
        let mut all = Vec::new();
        let unsigned = ["none", "None", "NONE", "nOnE", "none ", "\u{0}none", ""].map(Value::from);
        let others =
            ["HS384", "HS512", "RS256", "RS512", "PS256", "ES256", "ES256K", "EdDSA", "dir"];
        let odd =
            [json!(null), json!(256), json!(["HS256"]), json!({"name": "HS256"}), json!("hs256")];
        for algorithm in unsigned.into_iter().chain(others.map(Value::from)).chain(odd) {
            let header = part(&json!({"alg": algorithm, "typ": "JWT"}));
            for (how, signature) in [("no", ""), ("the former", signature)] {
                let token = format!("{header}.{claims}.{signature}");
                all.push((format!("alg {algorithm}, {how} signature"), token));
            }
        }
        all.push((
            "no alg".into(),
            format!("{}.{claims}.{signature}", part(&json!({"typ": "JWT"}))),
        ));
        all
    }

    /// RFC 8725, 3.5: keys that can be guessed, or that the token itself brings along.
    fn keys(&self) -> Vec<Forgery> {
        let hs256 = json!({"alg": "HS256", "typ": "JWT"});
        let whole = self.claims(json!({}));
        let [header, ..] = parts(&self.anns);
        let named = unpacked(header);
        let kid = named["kid"].as_str().expect("tokens name their key").to_owned();
        let guessed =
            ["", "secret", "changeme", "my-secret-jwt-key", "null", "peace", FOREIGN, &kid];
        let mut all: Vec<Forgery> = guessed
            .iter()
            .map(|key| (format!("the key {key:?}"), jwt::token(&hs256, &whole, key)))
            .collect();
        all.push(("the key of before, by its name".into(), jwt::token(&named, &whole, PREVIOUS)));
        for kid in ["../../../../dev/null", "x' or '1'='1", "", "0", "http://127.0.0.1/key"] {
            let header = json!({"alg": "HS256", "typ": "JWT", "kid": kid});
            all.push((format!("the key called {kid:?}"), jwt::token(&header, &whole, "")));
            all.push((format!("{kid:?}, rightly signed"), jwt::token(&header, &whole, SECRET)));
        }
        let own_key = json!({"kty": "oct", "k": URL_SAFE_NO_PAD.encode(FOREIGN)});
        for (name, value) in [
            ("jwk", own_key.clone()),
            ("jku", json!("https://attacker.example/keys.json")),
            ("x5u", json!("https://attacker.example/cert.pem")),
            ("x5c", json!([STANDARD.encode(FOREIGN)])),
            ("kid", own_key),
        ] {
            let mut header = hs256.clone();
            header[name] = value;
            all.push((format!("a key of its own, {name}"), jwt::token(&header, &whole, FOREIGN)));
        }
        all
    }

    /// RFC 7515, 4.1.11: what has to be understood and is not; and headers that are no headers.
    fn headers(&self) -> Vec<Forgery> {
        let whole = self.claims(json!({}));
        let signed = |header: Value| jwt::token(&header, &whole, SECRET);
        [
            ("crit", json!({"alg": "HS256", "crit": ["exp"]})),
            ("an empty crit", json!({"alg": "HS256", "crit": []})),
            ("b64", json!({"alg": "HS256", "crit": ["b64"], "b64": false})),
            ("a list", json!(["HS256"])),
            ("a text", json!("HS256")),
            ("null", json!(null)),
            ("an empty header", json!({})),
        ]
        .map(|(what, header)| (format!("header: {what}"), signed(header)))
        .to_vec()
    }

    /// RFC 8725, 3.8 to 3.12: issuer, audience, subject, kind, time; and other people's.
    fn claims_of_others(&self) -> Vec<Forgery> {
        let now = jwt::now_s();
        let changes = [
            json!({"exp": now - 60}),
            json!({"exp": 0}),
            json!({"exp": -1}),
            json!({"exp": null}),
            json!({"exp": "never"}),
            json!({"exp": format!("{}", now + 60)}),
            json!({"exp": [now + 60]}),
            json!({"nbf": now + 600}),
            json!({"iss": "attacker"}),
            json!({"iss": ["peace"]}),
            json!({"iss": null}),
            json!({"aud": "another"}),
            json!({"aud": ["another", "app"]}),
            json!({"aud": null}),
            json!({"sub": null}),
            json!({"sub": ""}),
            json!({"sub": "ann"}),
            json!({"sub": [self.ann]}),
            json!({"sid": null}),
            json!({"sid": "00000000-0000-0000-0000-000000000000"}),
            json!({"sid": "%"}),
            json!({"sid": [self.ann]}),
            json!({"typ": "refresh"}),
            json!({"typ": "ACCESS"}),
            json!({"typ": null}),
            json!({"typ": true}),
            json!({"jti": null}),
            json!({"iat": null}),
            json!({"iat": "now"}),
        ];
        let mut all: Vec<Forgery> = changes
            .into_iter()
            .map(|change| (format!("claims {change}"), jwt::signed(&self.ann, change)))
            .collect();
        let hs256 = json!({"alg": "HS256", "typ": "JWT"});
        for claims in [json!({}), json!([]), json!(null), json!("ann"), json!(7)] {
            all.push((format!("claims: {claims}"), jwt::token(&hs256, &claims, SECRET)));
        }
        // Two of a name: which one counts?
        let text = self.claims(json!({})).to_string();
        let twice = format!("{},\"sub\":\"{}\"}}", text.trim_end_matches('}'), self.bob);
        let signed = format!("{}.{}", part(&hs256), URL_SAFE_NO_PAD.encode(twice));
        all.push(("sub twice".into(), format!("{signed}.{}", jwt::signature(&signed, SECRET))));
        // Bob's own, made to be ann's.
        let [header, claims, signature] = parts(&self.bobs);
        let mut claims = unpacked(claims);
        claims["sub"] = json!(self.ann);
        all.push((
            "bob's, with her name".into(),
            format!("{header}.{}.{signature}", part(&claims)),
        ));
        let [_, anns, _] = parts(&self.anns);
        all.push(("her claims, his signature".into(), format!("{header}.{anns}.{signature}")));
        all
    }

    /// What is no token, or nearly one.
    fn forms(&self) -> Vec<Forgery> {
        let [header, claims, signature] = parts(&self.anns);
        let nested = URL_SAFE_NO_PAD.encode(&self.anns);
        let (start, last) = signature.split_at(signature.len() - 1);
        // The last sign has two bits that mean nothing: of four that read alike one is right.
        let alike = "AEIMQUYcgkosw048".contains(last).then(|| char::from(last.as_bytes()[0] + 1));
        let alike = alike.expect("the last sign of 32 bytes is one of these");
        [
            ("two parts", format!("{header}.{claims}")),
            ("one part", claims.to_owned()),
            ("four parts", format!("{header}.{claims}.{signature}.")),
            ("five parts", format!("{header}..{claims}.{signature}.{signature}")),
            ("an empty header", format!(".{claims}.{signature}")),
            ("empty claims", format!("{header}..{signature}")),
            ("dots", "..".to_owned()),
            ("padding", format!("{header}.{claims}.{signature}=")),
            ("a half signature", format!("{header}.{claims}.{}", &signature[..21])),
            ("a longer signature", format!("{header}.{claims}.{signature}AAAA")),
            ("another spelling of the signature", format!("{header}.{claims}.{start}{alike}")),
            ("a space inside", format!("{header}.{claims} .{signature}")),
            ("a token in a token", format!("{header}.{nested}.{signature}")),
            ("a list of tokens", format!("{},{}", self.anns, self.anns)),
            (
                "JSON",
                json!({"protected": header, "payload": claims, "signature": signature}).to_string(),
            ),
            ("base64 with other signs", format!("{header}+/.{claims}.{signature}")),
            ("capitals", self.anns.to_uppercase()),
            ("much", "A".repeat(16_000)),
            (
                "a million nested lists",
                format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode("[".repeat(9_000))),
            ),
        ]
        .map(|(what, token)| (format!("form: {what}"), token))
        .to_vec()
    }
}

#[test]
fn no_forged_token_is_taken() {
    let turn = Turn::shared();
    let database = Database::new(&turn);
    let peace = Launch::on(&turn, &database).workers(1).env("JWT_SECRET_KEY", SECRET).serve();
    let (ann, bob) = (sign_up(&peace, "ann"), sign_up(&peace, "bob"));
    database.add_session(&ann.pubid);
    let change = || put(&ann.place).json(&json!({"fullname": "somebody else was here"}));
    let ask = |token: &str| -> Reply { peace.ask(&change().bearer(token)) };
    for (what, token) in
        [("the server's own", &ann.token), ("the test's", &jwt::signed(&ann.pubid, json!({})))]
    {
        assert_eq!(ask(token).status, 200, "{what} is right");
    }
    let renamed = r#"update "user" set fullname = 'Ann', version = 7"#;
    database.sql().run(renamed);
    let forger =
        Forger { ann: ann.pubid, bob: bob.pubid, bobs: bob.token, anns: ann.token.clone() };
    let forgeries = forger.all();
    for (what, token) in &forgeries {
        check_problem(&ask(token), 401, what);
    }
    eprintln!("{} forged tokens, none taken", forgeries.len());
    assert!(forgeries.len() >= 80, "{}", forgeries.len());
    let state = r#"select fullname || version from "user" where name = 'ann'"#;
    assert_eq!(database.sql().value::<String>(state, &[]), "Ann7");
    let failures = peace.log().events();
    assert!(!failures.iter().any(|event| event.text.contains(r#""level":"ERROR""#)));
}
