// The story of dev/README.md ("Clients"), told by oauth4webapi, which also verifies the token offline
// as RFC 9068 says.
import * as oauth from "oauth4webapi";
import { privateKey } from "./private-key.mjs";

const { ISSUER, CLIENT_ID, CLIENT_SECRET, RESOURCE, KEY_ID, KEY_SECRET } = process.env;
const issuer = new URL(ISSUER);
const server = await oauth.processDiscoveryResponse(
  issuer, await oauth.discoveryRequest(issuer, { algorithm: "oauth2" }));
const way = process.argv[2];
const program = { client_id: CLIENT_ID };
const api = { client_id: KEY_ID };
const ways = {
  basic: () => oauth.ClientSecretBasic(CLIENT_SECRET),
  body: () => oauth.ClientSecretPost(CLIENT_SECRET),
  private_key_jwt: async () => oauth.PrivateKeyJwt(await privateKey()),
  dpop: () => oauth.ClientSecretBasic(CLIENT_SECRET),
};
const authentication = await ways[way]();
const key = way == "body" ? oauth.ClientSecretPost(KEY_SECRET) : oauth.ClientSecretBasic(KEY_SECRET);
const bound = way == "dpop" ? { DPoP: oauth.DPoP(program, await oauth.generateKeyPair("ES256")) } : {};

// With DPoP the first request may be told which nonce to use; the library knows it from then on.
async function withNonce(ask) {
  try {
    return await ask();
  } catch (error) {
    if (!oauth.isDPoPNonceError(error)) throw error;
    return ask();
  }
}

const token = parameters => withNonce(async () => oauth.processClientCredentialsResponse(server, program,
  await oauth.clientCredentialsGrantRequest(server, program, authentication, parameters, bound)));

const own = await token({ scope: "users:read" });
const users = await withNonce(() => oauth.protectedResourceRequest(
  own.access_token, "GET", new URL("/api/v1/users", ISSUER), undefined, undefined, bound));
const orders = await token({ resource: RESOURCE, scope: "orders:read" });
if (way != "dpop") {
  const request = new Request(RESOURCE, { headers: { authorization: `Bearer ${orders.access_token}` } });
  const claims = await oauth.validateJwtAccessToken(server, request, RESOURCE);
  if (claims.client_id !== CLIENT_ID) throw new Error("the token is another client's");
}
const told = await oauth.processIntrospectionResponse(
  server, api, await oauth.introspectionRequest(server, api, key, orders.access_token));
await oauth.processRevocationResponse(
  await oauth.revocationRequest(server, program, authentication, orders.access_token));

console.log(JSON.stringify({
  scope: own.scope, users: await users.json(), told, revoked: orders.access_token, kept: own.access_token,
}));
