import { useEffect, useState } from 'preact/hooks';

type Listener = (text: string) => void;
const listeners = new Set<Listener>();

/** Has a screen reader say a text, once what it is saying now is over. */
export function announce(text: string): void {
  for (const tell of listeners) tell(text);
}

/** The one live region of a page. */
export function Announcements() {
  const [said, setSaid] = useState({ text: '', turn: 0 });
  useEffect(() => {
    const tell = (text: string) => setSaid(({ turn }) => ({ text, turn: turn + 1 }));
    listeners.add(tell);
    return () => void listeners.delete(tell);
  }, []);
  // A text that is said twice is said only if it differs: the space at its end is not heard.
  return (
    <p class="unseen" role="status" aria-live="polite">
      {said.turn % 2 === 0 ? said.text : `${said.text}\u00a0`}
    </p>
  );
}
