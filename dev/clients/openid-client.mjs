// The story of dev/README.md ("Clients"), told by openid-client.
import * as client from "openid-client";

const { ISSUER, CLIENT_ID, CLIENT_SECRET, RESOURCE, KEY_ID, KEY_SECRET } = process.env;
const ways = { basic: client.ClientSecretBasic, body: client.ClientSecretPost };
const as = (id, authentication) =>
  client.discovery(new URL(ISSUER), id, undefined, authentication, { algorithm: "oauth2" });
const program = await as(CLIENT_ID, ways[process.argv[2]](CLIENT_SECRET));
const api = await as(KEY_ID, ways[process.argv[2]](KEY_SECRET));

const own = await client.clientCredentialsGrant(program, { scope: "users:read" });
const users = await client.fetchProtectedResource(program, own.access_token, new URL("/api/v1/users", ISSUER), "GET");
const orders = await client.clientCredentialsGrant(program, { resource: RESOURCE, scope: "orders:read" });
const told = await client.tokenIntrospection(api, orders.access_token);
await client.tokenRevocation(program, orders.access_token);

console.log(JSON.stringify({
  scope: own.scope, users: await users.json(), told, revoked: orders.access_token, kept: own.access_token,
}));
