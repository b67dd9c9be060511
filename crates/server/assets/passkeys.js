// Passkeys: the one thing of the console that cannot be done without a script. A button carries the
// server's question; the browser's answer goes back in the form around it.

const bytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const base64url = (buffer) => btoa(String.fromCharCode(...new Uint8Array(buffer)))
  .replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const known = (list) => (list ?? []).map((key) => ({ ...key, id: bytes(key.id) }));

async function make({ publicKey }) {
  const made = await navigator.credentials.create({
    publicKey: {
      ...publicKey,
      challenge: bytes(publicKey.challenge),
      user: { ...publicKey.user, id: bytes(publicKey.user.id) },
      excludeCredentials: known(publicKey.excludeCredentials),
    },
  });
  return {
    id: made.id,
    rawId: base64url(made.rawId),
    type: made.type,
    response: {
      attestationObject: base64url(made.response.attestationObject),
      clientDataJSON: base64url(made.response.clientDataJSON),
    },
    extensions: {},
  };
}

async function ask({ publicKey }) {
  const got = await navigator.credentials.get({
    publicKey: {
      ...publicKey,
      challenge: bytes(publicKey.challenge),
      allowCredentials: known(publicKey.allowCredentials),
    },
  });
  return {
    id: got.id,
    rawId: base64url(got.rawId),
    type: got.type,
    response: {
      authenticatorData: base64url(got.response.authenticatorData),
      clientDataJSON: base64url(got.response.clientDataJSON),
      signature: base64url(got.response.signature),
      userHandle: got.response.userHandle ? base64url(got.response.userHandle) : null,
    },
    extensions: {},
  };
}

const words = {
  NotAllowedError: "Nothing was done: it was cancelled or took too long. Try again.",
  InvalidStateError: "This device or security key has a passkey for this account already.",
  SecurityError: "Passkeys do not work at this address. Open the console at its own address.",
};

function prepare(button, question, work) {
  const form = button.form;
  const problem = form.querySelector("[data-passkey-error]");
  const say = (text) => {
    problem.querySelector("span").textContent = text;
    problem.hidden = false;
  };
  button.hidden = false;
  const run = async () => {
    if (button.disabled) return;
    problem.hidden = true;
    if (!globalThis.PublicKeyCredential) {
      say("This browser has no passkeys. Use another way.");
      return;
    }
    // A code that was not typed is not missed here; a name is.
    if (work === make && !form.reportValidity()) return;
    button.disabled = true;
    try {
      form.elements.credential.value = JSON.stringify(await work(JSON.parse(question)));
      form.submit();
    } catch (error) {
      button.disabled = false;
      say(words[error.name] ?? "The browser could not do this. Use another way.");
    }
  };
  button.addEventListener("click", run);
  // Enter in the name asks for the passkey too: a form without one is of no use. What asks for a
  // code as well has a button of its own for that.
  if (work !== make) return;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    run();
  });
}

for (const button of document.querySelectorAll("[data-passkey-new]")) prepare(button, button.dataset.passkeyNew, make);
for (const button of document.querySelectorAll("[data-passkey-ask]")) prepare(button, button.dataset.passkeyAsk, ask);
