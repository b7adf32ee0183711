import { createElement, type ComponentChildren } from 'preact';
import { useEffect, useRef } from 'preact/hooks';
import { announce } from '../shared/announce';
import { Problem } from '../shared/problem';
import type { Pages } from './use-api';

/** The heading of a page, which is read out and focused when the page is opened. */
export function Title({ children, page }: { readonly children: ComponentChildren; readonly page: string }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${page} – Sendmux`;
    heading.current?.focus();
  }, [page]);
  return (
    <h1 ref={heading} tabIndex={-1}>
      {children}
    </h1>
  );
}

/** Shows a list, with words for what it is while it is read, empty, refused, or not whole. */
export function List<T>({
  pages,
  empty,
  children,
}: {
  readonly pages: Pages<T>;
  readonly empty: ComponentChildren;
  readonly children: (items: readonly T[]) => ComponentChildren;
}) {
  const { items, hasMore, failure, more, reload } = pages;
  return (
    <>
      {failure && <Problem failure={failure} again={() => void reload()} />}
      {items === undefined ? !failure && <p>Reading …</p> : items.length === 0 ? empty : children(items)}
      {hasMore && (
        <p>
          <button type="button" onClick={() => void more().then(() => announce('More is shown.'))}>
            Show more
          </button>
        </p>
      )}
    </>
  );
}

/** Asks before what cannot be undone, or changes what others use. */
export function Confirm({
  title,
  children,
  yes,
  isDanger = true,
  onYes,
  onNo,
}: {
  readonly title: string;
  readonly children: ComponentChildren;
  readonly yes: string;
  readonly isDanger?: boolean;
  readonly onYes: () => void;
  readonly onNo: () => void;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const cancel = useRef<HTMLButtonElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
    // Whoever presses Enter once too often must not have confirmed by it.
    cancel.current?.focus();
  }, []);
  const confirm = (): void => {
    // Closing gives the focus back to the button that asked.
    dialog.current?.close();
    onYes();
  };
  return (
    <dialog ref={dialog} aria-labelledby="confirm" onClose={onNo}>
      <div class="stack">
        <h2 id="confirm">{title}</h2>
        {children}
        <div class="row">
          <button type="button" class={isDanger ? 'danger' : 'main'} onClick={confirm}>
            {yes}
          </button>
          <button ref={cancel} type="button" onClick={() => dialog.current?.close()}>
            Cancel
          </button>
        </div>
      </div>
    </dialog>
  );
}

interface FieldProps {
  readonly id: string;
  readonly label: string;
  readonly hint?: string;
  readonly value: string;
  readonly onValue: (value: string) => void;
  readonly type?: 'text' | 'email' | 'password' | 'datetime-local';
  readonly required?: boolean;
  readonly maxLength?: number;
  readonly step?: string;
}

/** A field of a form with its label. */
export function Field({ id, label, hint, value, onValue, type = 'text', ...limits }: FieldProps) {
  const input = {
    id,
    type,
    value,
    autocomplete: 'off',
    spellcheck: false,
    'aria-describedby': hint === undefined ? undefined : `${id}-hint`,
    onInput: ({ currentTarget }: InputEvent) => onValue((currentTarget as HTMLInputElement).value),
    ...limits,
  };
  return (
    <div class="narrow">
      <label for={id}>{label}</label>
      {createElement('input', input)}
      {hint !== undefined && (
        <p id={`${id}-hint`} class="quiet small">
          {hint}
        </p>
      )}
    </div>
  );
}
