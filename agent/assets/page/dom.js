// Elements. Whatever comes from the agent goes in as text: names are what strangers sent in a
// ClientHello, so nothing here, or anywhere on this page, parses markup.

const SVG = "http://www.w3.org/2000/svg";

export const byId = (id) => document.getElementById(id);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** An element; strings among the children become text. */
export function el(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for parts of pictures. */
export function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Text for screen readers alone. */
export const hiddenText = (text) => el("span", { class: "sr" }, text);

/** A dash in place of a figure that is not known, and why it is not. */
export function unknown(why) {
  return el("span", { class: "unknown", title: why }, el("span", { "aria-hidden": "true" }, "–"), hiddenText(`not known: ${why}`));
}

/** The text of a figure, or the dash. */
export const figure = (value, write, why) =>
  value === null || value === undefined ? unknown(why) : write(value);

/** Sentences whose `code` stands in backticks, as the agent writes its advice. */
export function prose(text) {
  const parts = text.split("`");
  // An odd mark is a mark.
  if (parts.length % 2 === 0) return el("span", {}, text);
  return el("span", {}, ...parts.map((part, index) => (index % 2 === 1 ? el("code", {}, part) : part)));
}

/** Changes text only where it differs: what did not change must not be read out, nor lose a selection. */
export function setText(node, text) {
  if (node.childNodes.length !== 1 || node.firstChild.nodeType !== Node.TEXT_NODE || node.textContent !== text) {
    node.textContent = text;
  }
}

/** Puts a string or an element in, unless the same is there. */
export function put(node, content) {
  if (typeof content === "string") setText(node, content);
  else if (node.childNodes.length !== 1 || !node.firstChild.isEqualNode(content)) node.replaceChildren(content);
}

/** Sets an attribute, unless it is so already. */
export function setAttribute(node, name, value) {
  if (value === null) node.removeAttribute(name);
  else if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

/**
 * Makes the children of `parent` those of `items`, in that order. Nodes are kept by key and updated in
 * place, so that focus, selection and open details outlive an update.
 */
export function reconcile(parent, items, { key, create, update }) {
  const kept = (parent.kept ??= new Map());
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const wanted = new Map(items.map((item) => [key(item), item]));
  // First, so that those which stay need not be moved past them.
  for (const [id, node] of kept) {
    if (!wanted.has(id)) {
      node.remove();
      kept.delete(id);
    }
  }
  let position = parent.firstChild;
  for (const [id, item] of wanted) {
    let node = kept.get(id);
    if (node === undefined) {
      node = create(item);
      kept.set(id, node);
    }
    update(node, item);
    if (node === position) position = position.nextSibling;
    else parent.insertBefore(node, position);
  }
  // A node that is moved loses the focus.
  if (focused !== null && focused !== document.activeElement && focused.isConnected) {
    focused.focus({ preventScroll: true });
  }
}

/** Says something to those who cannot see it change. Meant for what a user waits for, not for figures. */
export function announce(text) {
  setText(byId("announcement"), text);
}
