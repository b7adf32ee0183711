/** The tasks of the notifier: the notices that owners are to be mailed. */
import type { Finding } from '@app/mail-records';

export const notifierTasks = 'notifier';

/** A failure of a domain, with the data of its event. */
export interface FailureTask {
  readonly domainId: string;
  /** The team of the domain. Tasks of earlier releases have none, and are mailed individually. */
  readonly team?: string;
  readonly episode: number;
  readonly at: string;
  /** Joins the log lines of one request or one cycle. Tasks of earlier releases have none. */
  readonly correlationId?: string;
  readonly failing: readonly Finding[];
}

/** The first success after a failure. */
export type RecoveryTask = Omit<FailureTask, 'failing' | 'team'>;

/** A change of the DKIM records of a domain. */
export type NewRecordsTask = Omit<RecoveryTask, 'episode'> & {
  /** The version of the event in its stream. */
  readonly version: number;
  /**
   * `move`: another identity has them, which is to replace the one that signs. `moved`: it has replaced it. Absent
   * where SES had lost the identity.
   */
  readonly because?: 'move' | 'moved';
};

/** What is news about the name of a domain, with the event that it is about. */
export type NewsTask = Omit<NewRecordsTask, 'because'> & {
  readonly about: 'expiry' | 'ownership_gone' | 'released';
  /** Whether the domain had failed already when its ownership record was found gone. */
  readonly hadFailed?: boolean;
};

export const newsOf = ({ domainId, about, version }: Pick<NewsTask, 'domainId' | 'about' | 'version'>): string =>
  `${domainId}/${about}/${version}`;

export const newRecordsOf = ({ domainId, version }: Pick<NewRecordsTask, 'domainId' | 'version'>): string =>
  `${domainId}/records/${version}`;

/** Gives the key of a failure in the task list and in the deliveries. */
export const episodeOf = ({ domainId, episode }: Pick<FailureTask, 'domainId' | 'episode'>): string =>
  `${domainId}/${episode}`;

export const recoveryOf = (recovery: RecoveryTask): string => `${episodeOf(recovery)}/recovered`;
