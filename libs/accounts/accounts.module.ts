import { Module } from '@nestjs/common';
import { Accounts } from './accounts.service';
import { Invitations } from './invitations.service';
import { KeyUses } from './key-uses';
import { Sessions } from './sessions.service';
import { SetupLinks } from './setup-links.service';

const services = [Accounts, Invitations, KeyUses, Sessions, SetupLinks];

@Module({ providers: services, exports: services })
export class AccountsModule {}
