/** What the sandbox is told to do wrong, and what it can do wrong. */
export interface FaultList {
  readonly active: Readonly<Record<string, { readonly mode: string; readonly times?: number; after_ms: number }>>;
  readonly modes: Readonly<Record<string, readonly string[]>>;
}

export interface Mail {
  readonly id: number;
  readonly date: string;
  readonly from: string;
  readonly to: readonly string[];
  readonly subject: string;
  readonly text: string;
  readonly html: string;
}

export type ZoneRecords = Readonly<Record<string, Readonly<Record<string, readonly string[]>>>>;

/** Asks the sandbox. @throws {Error} with the words of its refusal. */
export async function ask<T>(method: string, path: string, body?: unknown): Promise<T> {
  const response = await fetch(path, {
    method,
    headers: { accept: 'application/json', ...(body !== undefined && { 'content-type': 'application/json' }) },
    ...(body !== undefined && { body: JSON.stringify(body) }),
  }).catch(() => {
    throw new Error('The sandbox cannot be reached. Does it still run?');
  });
  const text = await response.text();
  const answer: unknown = text === '' ? undefined : JSON.parse(text);
  if (!response.ok) throw new Error((answer as { message?: string } | undefined)?.message ?? response.statusText);
  return answer as T;
}

/** Gives the path of a record set. */
export const recordPath = (name: string, type?: string): string =>
  `/zone/${encodeURIComponent(name)}${type === undefined ? '' : `/${encodeURIComponent(type)}`}`;
