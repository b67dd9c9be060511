// The story of dev/README.md ("Clients"), told by openid-client.
import * as client from "openid-client";
import { privateKey } from "./private-key.mjs";

const { ISSUER, CLIENT_ID, CLIENT_SECRET, RESOURCE, KEY_ID, KEY_SECRET } = process.env;
const way = process.argv[2];
const as = (id, authentication) =>
  client.discovery(new URL(ISSUER), id, undefined, authentication, { algorithm: "oauth2" });
const ways = {
  basic: () => client.ClientSecretBasic(CLIENT_SECRET),
  body: () => client.ClientSecretPost(CLIENT_SECRET),
  private_key_jwt: async () => client.PrivateKeyJwt(await privateKey()),
  dpop: () => client.ClientSecretBasic(CLIENT_SECRET),
};
const program = await as(CLIENT_ID, await ways[way]());
const api = await as(KEY_ID, way == "body" ? client.ClientSecretPost(KEY_SECRET) : client.ClientSecretBasic(KEY_SECRET));
const bound = way == "dpop"
  ? { DPoP: client.getDPoPHandle(program, await client.randomDPoPKeyPair("ES256")) } : undefined;

const own = await client.clientCredentialsGrant(program, { scope: "users:read" }, bound);
const users = await client.fetchProtectedResource(
  program, own.access_token, new URL("/api/v1/users", ISSUER), "GET", undefined, undefined, bound);
const orders = await client.clientCredentialsGrant(program, { resource: RESOURCE, scope: "orders:read" }, bound);
const told = await client.tokenIntrospection(api, orders.access_token);
await client.tokenRevocation(program, orders.access_token);

console.log(JSON.stringify({
  scope: own.scope, users: await users.json(), told, revoked: orders.access_token, kept: own.access_token,
}));
