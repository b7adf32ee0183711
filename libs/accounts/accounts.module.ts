import { Module } from '@nestjs/common';
import { Accounts } from './accounts.service';
import { Invitations } from './invitations.service';
import { KeyUses } from './key-uses';

@Module({ providers: [Accounts, Invitations, KeyUses], exports: [Accounts, Invitations, KeyUses] })
export class AccountsModule {}
