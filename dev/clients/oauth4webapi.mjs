// The story of dev/README.md ("Clients"), told by oauth4webapi, which also verifies the token offline
// as RFC 9068 says.
import * as oauth from "oauth4webapi";

const { ISSUER, CLIENT_ID, CLIENT_SECRET, RESOURCE, KEY_ID, KEY_SECRET } = process.env;
const issuer = new URL(ISSUER);
const server = await oauth.processDiscoveryResponse(
  issuer, await oauth.discoveryRequest(issuer, { algorithm: "oauth2" }));
const ways = { basic: oauth.ClientSecretBasic, body: oauth.ClientSecretPost };
const way = ways[process.argv[2]];
const program = { client_id: CLIENT_ID };
const api = { client_id: KEY_ID };

async function token(parameters) {
  const answer = await oauth.clientCredentialsGrantRequest(server, program, way(CLIENT_SECRET), parameters);
  return oauth.processClientCredentialsResponse(server, program, answer);
}

const own = await token({ scope: "users:read" });
const users = await oauth.protectedResourceRequest(own.access_token, "GET", new URL("/api/v1/users", ISSUER));
const orders = await token({ resource: RESOURCE, scope: "orders:read" });
const request = new Request(RESOURCE, { headers: { authorization: `Bearer ${orders.access_token}` } });
const claims = await oauth.validateJwtAccessToken(server, request, RESOURCE);
if (claims.client_id !== CLIENT_ID) throw new Error("the token is another client's");
const told = await oauth.processIntrospectionResponse(
  server, api, await oauth.introspectionRequest(server, api, way(KEY_SECRET), orders.access_token));
await oauth.processRevocationResponse(
  await oauth.revocationRequest(server, program, way(CLIENT_SECRET), orders.access_token));

console.log(JSON.stringify({
  scope: own.scope, users: await users.json(), told, revoked: orders.access_token, kept: own.access_token,
}));
