// The story of dev/README.md ("Clients"), told by simple-oauth2, which does not introspect.
import { ClientCredentials } from "simple-oauth2";

const { ISSUER, CLIENT_ID, CLIENT_SECRET, RESOURCE } = process.env;
const program = new ClientCredentials({
  client: { id: CLIENT_ID, secret: CLIENT_SECRET },
  auth: { tokenHost: ISSUER, tokenPath: "/oauth/token", revokePath: "/oauth/revoke" },
  options: { authorizationMethod: { basic: "header", body: "body" }[process.argv[2]] },
});

const own = await program.getToken({ scope: "users:read" });
const users = await fetch(new URL("/api/v1/users", ISSUER), {
  headers: { authorization: `Bearer ${own.token.access_token}` },
});
const orders = await program.getToken({ resource: RESOURCE, scope: "orders:read" });
await orders.revoke("access_token");

console.log(JSON.stringify({
  scope: own.token.scope, users: await users.json(),
  revoked: orders.token.access_token, kept: own.token.access_token,
}));
