import { createContext } from 'preact';
import { useContext } from 'preact/hooks';
import type { Api, ApiFailure, Schemas } from '../shared/api';
import { allows } from './permissions';

export type Me = Schemas['MeSchema'];

export interface Session {
  readonly api: Api;
  readonly me: Me;
  /** Reads again what the key may do, and what its team has. */
  readonly refresh: () => Promise<void>;
  /** Tells of a refusal: one that says that the session is over ends it here too. */
  readonly refused: (failure: ApiFailure) => void;
}

export const SessionContext = createContext<Session | undefined>(undefined);

export function useSession(): Session {
  const session = useContext(SessionContext);
  if (!session) throw new Error('There is no session.');
  return session;
}

export function useMay(): (permission: string) => boolean {
  const { me } = useSession();
  return (permission) => allows(me.permissions, permission);
}

/** Says that a key may not do something. */
export function NotAllowed({ to, permission }: { readonly to: string; readonly permission: string }) {
  return (
    <p class="note">
      The key that you signed in with may not {to}: it would need the permission <span class="value">{permission}</span>
      . Somebody in your team who may create keys can give you one that has it.
    </p>
  );
}
