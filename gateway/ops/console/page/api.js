// What the page asks its gateway for. All paths are relative, for proxies that serve it below one.

export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// onLoggedOut is called when a request is refused for want of a session.
let loggedOut = () => {};
export const onLoggedOut = (f) => { loggedOut = f; };

const patience = 10_000;

async function ask(path, options = {}) {
  const response = await fetch(path, { signal: AbortSignal.timeout(patience), cache: "no-store", redirect: "error", ...options });
  if (response.status === 401 && path !== "login") loggedOut();
  if (response.ok) return response;
  throw new Refused(response.status, reason(await response.text(), response.status));
}

function reason(text, status) {
  try {
    return JSON.parse(text).error.message;
  } catch {
    return text.trim().slice(0, 200) || `status ${status}`;
  }
}

const post = (path, body, type = "application/json") => ask(path, { method: "POST", body, headers: { "Content-Type": type } });

export const login = (key) => post("login", JSON.stringify({ key }));
export const logout = () => post("logout", "");
export const metrics = async () => (await ask("metrics")).text();
export const readiness = async () => {
  const response = await fetch("readyz", { signal: AbortSignal.timeout(patience), cache: "no-store" });
  return { ready: response.ok, text: (await response.text()).trim() };
};
export const connections = async (sort, limit) => (await ask(`api/connections?${new URLSearchParams({ sort, limit })}`)).json();
export const closeConnection = (id) => post(`api/connections/${encodeURIComponent(id)}/close`, "");
export const publish = async (name, text) => (await post(`publish/${encodeURIComponent(name)}`, text, "text/plain; charset=utf-8")).json();

// method calls a method of the server API and returns its result. Its errors have numbers.
export async function method(name, params) {
  const { result, error } = await (await post(`api/${name}`, JSON.stringify(params))).json();
  if (error) throw Object.assign(new Refused(200, error.message), { code: error.code });
  return result;
}

export const busiest = (sort, limit) => method("channel_stats", { sort, limit });
export const channel = async (name) => (await method("channel_stats", { channel: name })).channels[0];
