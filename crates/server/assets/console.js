// What the platform needs a script for: copying, downloading, one POST per click, and keeping a
// secret out of the back/forward cache. Every page works without it.

const text = (id) => document.getElementById(id)?.textContent.trim() ?? "";

function announce(words) {
  const place = document.getElementById("announce");
  if (!place) return;
  place.textContent = "";
  setTimeout(() => { place.textContent = words; }, 50);
}

function select(element) {
  const range = document.createRange();
  range.selectNodeContents(element);
  const selection = getSelection();
  selection.removeAllRanges();
  selection.addRange(range);
}

async function copy(button) {
  const source = document.getElementById(button.dataset.copy);
  if (!source) return;
  const label = button.firstChild;
  try {
    await navigator.clipboard.writeText(source.textContent.trim()); // only in a secure context
    label.data = "Copied";
    announce("Copied");
    setTimeout(() => { label.data = "Copy"; }, 2000);
  } catch {
    select(source);
    announce("Selected. Copy it with the keyboard.");
  }
}

function hand(name, content) {
  const url = URL.createObjectURL(new Blob([content], { type: "text/plain" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
  announce(`Downloaded as ${name}`);
}

function download(button) {
  const lines = [
    `PORTCULLIS_CLIENT_ID=${text("client-id")}`,
    `PORTCULLIS_CLIENT_SECRET=${text("client-secret")}`,
    `PORTCULLIS_TOKEN_URL=${button.dataset.tokenUrl}`,
  ];
  hand("portcullis.env", lines.join("\n") + "\n");
}

function save(button) {
  hand(button.dataset.as, text(button.dataset.save) + "\n");
}

for (const button of document.querySelectorAll("[data-save]")) {
  button.hidden = false;
  button.addEventListener("click", () => save(button));
}
for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", () => copy(button));
}
for (const button of document.querySelectorAll("[data-env]")) {
  button.hidden = false;
  button.addEventListener("click", () => download(button));
}

// One POST per click: the button of a sent form stays disabled until the page is shown again.
for (const form of document.querySelectorAll("form[data-once]")) {
  form.addEventListener("submit", () => {
    for (const button of form.querySelectorAll("button")) button.disabled = true;
  });
}

// The account menu closes on Escape and on a click outside.
for (const menu of document.querySelectorAll("details[data-menu]")) {
  document.addEventListener("click", (event) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });
  menu.addEventListener("focusout", (event) => {
    if (event.relatedTarget && !menu.contains(event.relatedTarget)) menu.open = false;
  });
}

// The confirmation opens where it stands. On its own address it is already open and Cancel,
// Escape included, leads back.
for (const link of document.querySelectorAll("[data-dialog]")) {
  const dialog = document.getElementById(link.dataset.dialog);
  if (!dialog?.showModal) continue;
  const cancel = dialog.querySelector("[data-close]");
  const ownPage = dialog.open;
  if (ownPage) {
    dialog.removeAttribute("open");
    document.querySelector(".page").inert = false;
    dialog.showModal();
    dialog.addEventListener("close", () => location.assign(cancel.href));
  } else {
    link.addEventListener("click", (event) => {
      if (event.metaKey || event.ctrlKey || event.shiftKey) return;
      event.preventDefault();
      dialog.showModal();
    });
    cancel.addEventListener("click", (event) => {
      event.preventDefault();
      dialog.close();
    });
  }
}

// A page that is left keeps no secret, whatever the browser keeps of the page; and one that comes
// back is asked for again, because what it said may no longer be so.
addEventListener("pagehide", () => {
  for (const element of document.querySelectorAll("[data-secret]")) element.textContent = "";
});
addEventListener("pageshow", (event) => {
  for (const button of document.querySelectorAll("form[data-once] button")) button.disabled = false;
  // Not a reload, which would send a form again. The address of a form leads to its page.
  if (event.persisted && document.querySelector(".page")) location.replace(location.pathname + location.search);
});
