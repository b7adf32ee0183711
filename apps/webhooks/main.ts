import { runApp } from '@app/process';
import { webhooks } from './app';

void runApp(webhooks);
