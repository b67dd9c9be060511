// The private key that is bound to the credential, out of the PKCS#8 document in PRIVATE_KEY.
import { createPrivateKey, webcrypto } from "node:crypto";

export async function privateKey() {
  const document = createPrivateKey(process.env.PRIVATE_KEY).export({ type: "pkcs8", format: "der" });
  return webcrypto.subtle.importKey("pkcs8", document, { name: "ECDSA", namedCurve: "P-256" }, false, ["sign"]);
}
