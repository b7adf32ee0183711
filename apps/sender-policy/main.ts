import { runApp } from '@app/process';
import { senderPolicy } from './app';

void runApp(senderPolicy);
