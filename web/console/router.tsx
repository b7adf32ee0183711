import type { ComponentChildren } from 'preact';
import { useEffect, useState } from 'preact/hooks';

const moved = 'page-moved';

/** Goes to another page of the console. */
export function go(to: string, { replace = false } = {}): void {
  history[replace ? 'replaceState' : 'pushState'](null, '', to);
  dispatchEvent(new Event(moved));
}

/** Gives the path and the query of the address, whenever they change. */
export function useAddress(): { readonly path: string; readonly query: URLSearchParams } {
  const [address, setAddress] = useState(location.pathname + location.search);
  useEffect(() => {
    const read = (): void => setAddress(location.pathname + location.search);
    for (const event of ['popstate', moved]) addEventListener(event, read);
    return () => {
      for (const event of ['popstate', moved]) removeEventListener(event, read);
    };
  }, []);
  const { pathname, searchParams } = new URL(address, location.origin);
  return { path: pathname, query: searchParams };
}

/** A link within the console, which loads no document anew. */
export function Link({
  to,
  children,
  class: of,
  current,
}: {
  readonly to: string;
  readonly children: ComponentChildren;
  readonly class?: string;
  readonly current?: boolean;
}) {
  return (
    <a
      href={to}
      class={of}
      aria-current={current ? 'page' : undefined}
      onClick={(event) => {
        if (event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
        event.preventDefault();
        go(to);
      }}
    >
      {children}
    </a>
  );
}
