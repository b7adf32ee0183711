const stored = 'setup-token';

/** Gives the token in the fragment of an address; undefined where there is none. */
export function tokenIn(fragment: string): string | undefined {
  return /^#(smx_setup_[\w-]{1,200})$/.exec(fragment)?.[1];
}

/**
 * Moves the token out of the address, where others could read it from the screen, the history or a bookmark, into the
 * storage of this tab. Gives the one that the tab has.
 */
export function takeToken(): string | undefined {
  const token = tokenIn(location.hash);
  if (token !== undefined) sessionStorage.setItem(stored, token);
  if (location.hash !== '') history.replaceState(null, '', location.pathname + location.search);
  return sessionStorage.getItem(stored) ?? undefined;
}

export const forgetToken = (): void => sessionStorage.removeItem(stored);

/** Tells whether somebody comes back from one click at the DNS provider, once: the address says it no longer then. */
export function takeReturn(): boolean {
  const isBack = new URLSearchParams(location.search).get('returned') === 'domain-connect';
  if (location.search !== '') history.replaceState(null, '', location.pathname);
  return isBack;
}
