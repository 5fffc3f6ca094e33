/**
 * Twenty-one calls with openapi-fetch, and the types that openapi-typescript has made of the API document.
 *
 * `calls.ts URL` asks the server there, whose database has no user yet. Every answer is checked, by tsc for
 * what it may be, and here for what it is; the first that is wrong ends this with an error.
 */
import assert from "node:assert/strict";
import { argv } from "node:process";

import createClient, { type Client } from "openapi-fetch";

import type { components, paths } from "./schema.d.ts";

type Api = Client<paths>;
type User = components["schemas"]["UserResponse"];
type Problem = components["schemas"]["Problem"];

/** What comes of a call: the one or the other. */
type Told<T> = { data?: T; error?: Problem; response: Response };

const password = "correct horse";

/** What a success has told. */
function right<T>({ data, error, response }: Told<T>, status = 200): T {
    assert.equal(response.status, status, JSON.stringify(error));
    assert.ok(data !== undefined, `${response.url} has told nothing`);
    return data;
}

/** What a failure has told. */
function wrong({ error, response }: Told<unknown>, status: number, code: string): Problem {
    assert.ok(error, `${response.url} succeeded`);
    assert.deepEqual([response.status, error.status], [status, status], JSON.stringify(error));
    assert.ok(error.type.endsWith(`/problems/${code}`), error.type);
    assert.equal(error.request_id, response.headers.get("x-request-id"));
    return error;
}

async function signUp(api: Api): Promise<User> {
    const body = { name: "ann", password };
    const ann = right(await api.POST("/users", { body }), 201);
    assert.deepEqual(ann, { pubid: ann.pubid, name: "ann" });
    const again = wrong(await api.POST("/users", { body }), 409, "name-taken");
    assert.deepEqual([again.instance, again.errors], ["/users", undefined]);

    const invalid = await api.POST("/users", { body: { name: "n".repeat(31), password: "short" } });
    const failures = wrong(invalid, 422, "invalid-input").errors ?? [];
    assert.deepEqual(
        failures.map(({ loc, type, pointer }) => [loc, type, pointer]),
        [
            [["body", "name"], "string_too_long", "#/name"],
            [["body", "password"], "string_too_short", "#/password"],
        ],
    );
    return ann;
}

/** An access token of ann's, the second one. */
async function logIn(api: Api): Promise<string> {
    const form = { headers: { "content-type": "application/x-www-form-urlencoded" } };
    const guess = { username: "ann", password: "battery staple" };
    const bad = wrong(await api.POST("/auth/token", { body: guess, ...form }), 401, "wrong-credentials");
    assert.equal(bad.error, "invalid_grant");
    const login = await api.POST("/auth/token", { body: { username: "ann", password }, ...form });
    const { refresh_token, token_type, expires_in } = right(login);
    assert.deepEqual([token_type, expires_in], ["bearer", 900]);
    return right(await api.POST("/auth/refresh", { body: { refresh_token }, ...form })).access_token;
}

/** Another user; a page has one of two. */
async function readUsers(api: Api, ann: User): Promise<User> {
    const body = { name: "bob", password, fullname: "Bob Example" };
    const bob = right(await api.POST("/users", { body }), 201);
    const first = right(await api.GET("/users", { params: { query: { limit: 1 } } }));
    assert.deepEqual([first.users, first.page.limit], [[ann], 1]);
    const query = { limit: 1, cursor: first.page.next_cursor };
    const last = right(await api.GET("/users", { params: { query } }));
    assert.deepEqual([last.users, last.page.next_cursor], [[bob], undefined]);
    return bob;
}

async function writeItems(api: Api, ann: User, bob: User): Promise<void> {
    const create = (name: string, owner: User) => api.POST("/items", { body: { name, user_pubid: owner.pubid } });
    wrong(await create("hat", bob), 403, "forbidden");
    const created = await create("umbrella", ann);
    const umbrella = right(created, 201);
    assert.equal(created.response.headers.get("location"), `/items/${umbrella.pubid}`);
    const pen = right(await create("pen", ann), 201);

    const query = { user_pubid: ann.pubid, limit: 1 };
    const { items, page } = right(await api.GET("/items", { params: { query } }));
    assert.deepEqual(items, [umbrella]);
    const rest = await api.GET("/items", { params: { query: { ...query, cursor: page.next_cursor } } });
    assert.deepEqual(right(rest).items, [pen]);

    const params = { path: { pubid: pen.pubid } };
    const replaced = await api.PUT("/items/{pubid}", { params, body: { added: "2024-12-12T13:25:00" } });
    assert.equal(right(replaced).added, "2024-12-12T13:25:00");
    const patched = await api.PATCH("/items/{pubid}", { params, body: { added: "2025-01-01T00:00:00.5" } });
    assert.deepEqual(right(patched), { ...pen, added: "2025-01-01T00:00:00.500000" });
    const old = { params: { path: { pubid: umbrella.pubid } } };
    assert.equal((await api.DELETE("/items/{pubid}", old)).response.status, 200);
    const gone = wrong(await api.GET("/items/{pubid}", old), 404, "not-found");
    assert.equal(gone.instance, `/items/${umbrella.pubid}`);
}

async function main(url: string): Promise<void> {
    const api = createClient<paths>({ baseUrl: url });
    const ann = await signUp(api);
    const token = await logIn(api);
    const bob = await readUsers(api, ann);
    const caller = createClient<paths>({ baseUrl: url, headers: { authorization: `Bearer ${token}` } });
    await writeItems(caller, ann, bob);
    const path = { pubid: ann.pubid };
    const patched = await caller.PATCH("/users/{pubid}", { params: { path }, body: { fullname: "Ann Example" } });
    assert.equal(right(patched).fullname, "Ann Example");
    const read = right(await api.GET("/users/{pubid}", { params: { path, query: { incl_items: true } } }));
    assert.deepEqual(read.items?.map(({ name }) => name), ["pen"]);
    const nobody = { pubid: "00000000-0000-4000-8000-000000000000" };
    wrong(await api.GET("/users/{pubid}", { params: { path: nobody } }), 404, "not-found");
}

const [, , url] = argv;
assert.ok(url, "usage: calls.ts URL");
await main(url);
