import type { StoredMailboxEvent } from './events';

/** The personal data of events, by the type of the event, as models read them. */
interface PersonalData {
  readonly MailboxCreated: {
    /** Canonical: case folded, NFC, the domain in A-labels; null once it is erased. */
    readonly address: string | null;
  };
  readonly DisplayNameChanged: {
    /** 1 to 254 characters; null: none, or erased. */
    readonly displayName: string | null;
  };
}

/** The field that `sealed` stands for, by the type of the event. */
const personalFields = { MailboxCreated: 'address', DisplayNameChanged: 'displayName' } as const satisfies {
  [Type in keyof PersonalData]: keyof PersonalData[Type];
};

type Decrypted<E> = E extends { readonly type: infer Type extends keyof PersonalData; readonly data: infer Data }
  ? Omit<E, 'data'> & { readonly data: Omit<Data, 'sealed'> & PersonalData[Type] }
  : E;

/** An event as the model decides it and folds it, with personal data in clear. */
export type MailboxEvent = Decrypted<StoredMailboxEvent>;

/** Begins a text that is not encrypted, as events of schema version 1 have it; no base64 begins so. */
const inClear = 'clear:';

/** Writes personal data as an event of schema version 1 has them once it is lifted to version 2. */
export const unencrypted = (personal: object): string => `${inClear}${JSON.stringify(personal)}`;

/** Tells whether the personal data of a recorded event are encrypted, so that reading it takes a key. */
export const isEncrypted = ({ type, schemaVersion }: { readonly type: string; readonly schemaVersion: number }) =>
  Object.hasOwn(personalFields, type) && schemaVersion > 1;

/** Tells whether a recorded event has personal data in clear. */
export const isUnencrypted = ({ type, schemaVersion }: { readonly type: string; readonly schemaVersion: number }) =>
  Object.hasOwn(personalFields, type) && schemaVersion === 1;

/** The types of the events that have personal data. */
export const personalTypes = Object.keys(personalFields);

/** Tells whether an event has personal data. */
export const hasPersonalData = ({ type }: MailboxEvent): boolean => Object.hasOwn(personalFields, type);

/** Encrypts personal data, JSON, as `sealed` has them. */
export type Seal = (personal: string) => string;

/** Decrypts what `Seal` has given for a mailbox; undefined once it is erased. */
export type OpenSealed = (mailboxId: string, sealed: string) => string | undefined;

const fieldOf = (type: string): string | undefined =>
  Object.hasOwn(personalFields, type) ? personalFields[type as keyof PersonalData] : undefined;

/** Gives the data of an event as they are stored. */
export function storedData({ type, data }: MailboxEvent, seal: Seal): StoredMailboxEvent['data'] {
  const field = fieldOf(type);
  if (field === undefined) return data as StoredMailboxEvent['data'];
  const { [field]: personal, ...rest } = data as Readonly<Record<string, unknown>>;
  return { sealed: seal(JSON.stringify({ [field]: personal })), ...rest };
}

/** Gives an event as the model reads it. */
export function decrypted(stored: StoredMailboxEvent, open: OpenSealed): MailboxEvent {
  const field = fieldOf(stored.type);
  if (field === undefined) return stored as MailboxEvent;
  const { sealed, ...rest } = stored.data as { readonly sealed: string };
  const text = sealed.startsWith(inClear) ? sealed.slice(inClear.length) : open(stored.mailboxId, sealed);
  const personal = text === undefined ? {} : (JSON.parse(text) as Readonly<Record<string, unknown>>);
  return { ...stored, data: { [field]: personal[field] ?? null, ...rest } } as unknown as MailboxEvent;
}
