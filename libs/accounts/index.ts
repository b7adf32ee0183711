export * from './accounts.migration';
export * from './accounts.module';
export { Accounts, type ApiKey, type Caller, type DeletedTeam, type Team } from './accounts.service';
export * from './errors';
export * from './invitation-mail';
export * from './invitations.service';
export * from './key-uses';
export * from './permissions';
